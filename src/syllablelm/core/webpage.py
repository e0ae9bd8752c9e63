"""Pages for the browser that load nothing: style and pictures are inside."""

from __future__ import annotations

from base64 import b64encode
from html import escape


def html_page(title: str, style: str, body: str) -> str:
    """A whole page, as wide as the screen it is read on.

    Args:
        title: plain text, for the browser's tab.
        style: CSS.
        body: HTML; what is not the program's own must be escaped in it.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def data_url(media_type: str, data: bytes) -> str:
    """A file as an address that holds its contents, for ``src`` and ``srcset``."""
    return f"data:{media_type};base64,{b64encode(data).decode()}"
