"""Code blocks of a document, and the commands in them with their loops unrolled."""

from __future__ import annotations

import re
from collections.abc import Iterator

# End of a line that begins a loop.
_OPENS = r"; do(?: +#.*)?"


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language in Markdown."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def command_lines(block: str) -> list[str]:
    """Return the commands of a shell block, a line each; loops over words are unrolled, other syntax is left alone."""
    text = re.sub(r"; do +(?=[^#\s])", "; do\n", block.replace("\\\n", " "))
    text = re.sub(r"; done\b", "\ndone", text)
    return list(_unroll([line.strip() for line in text.splitlines() if line.strip()]))


def _unroll(lines: list[str]) -> Iterator[str]:
    while lines:
        line = lines.pop(0)
        loop = re.fullmatch(rf"for (\w+) in (.+){_OPENS}", line)
        if loop is None:
            yield line
            continue
        depth, body = 1, []
        while depth > 0:
            body.append(lines.pop(0))
            depth += bool(re.search(f"{_OPENS}$", body[-1])) - bool(re.match(r"done\b", body[-1]))
        for value in loop[2].split():
            yield from _unroll([re.sub(rf"\$({loop[1]}\b|{{{loop[1]}}})", value, text) for text in body[:-1]])
