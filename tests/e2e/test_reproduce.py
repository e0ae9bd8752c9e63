"""docs/reproduce.md, run in miniature: every command of the page, in its order, in one folder of small inputs.

The page is the list: a command without an entry in MINIATURE fails, and so does an entry that no command uses. Commands
build on those before them, so a test alone needs the slow ones before it: ``make reproduce-mini`` runs all.
"""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatch, fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import Run
from helpers.shell_blocks import blocks, command_lines
from syllablelm.core.recipes import recipe_names
from syllablelm.evaluate.speech import recognizers

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
# Numbers of units on the page, which also stand in names of folders, and those of the miniature.
SMALLER = {"4096": "7", "8192": "9"}


def changes(text: str) -> str:
    return " ".join(f"--set {change}" for change in text.split())


LM = changes(
    "lm.shape.layers=1 lm.shape.dim=16 lm.shape.heads=2 lm.shape.feed_forward=32 lm.shape.positions=128 "
    "lm.row_tokens=64 lm.batch_tokens=64 lm.loop.steps=2"
)
LOOPS = " ".join(
    f"{loop}.steps=2 {loop}.batch_seconds=5.0"
    for loop in ("head.fit.loop", "round.1.sylboost.loop", "round.2.sylboost.loop")
)
TOKENIZER = f"{changes(f'head.labels.num_labels=5 {LOOPS}')} --device cpu"
VOCODER_LM = changes(
    "vocoder_lm.shape.layers=1 vocoder_lm.shape.dim=16 vocoder_lm.shape.heads=2 vocoder_lm.shape.feed_forward=32 "
    "vocoder_lm.shape.positions=256 vocoder_lm.row_tokens=256 vocoder_lm.batch_tokens=256 vocoder_lm.loop.steps=2"
)
PLAN = """--set 'shapes=["1x16","1x24","1x32"]' --set 'ratios=[0.01,0.02,0.04]' --set 'batch_tokens=[64]'
    --set 'lr=[1e-2]' --set context=64 --set vocab=64"""
RUN = changes("lm.row_tokens=64 lm.batch_tokens=64 lm.shape.positions=64")
PAIRS = "--device cpu --resamples 5"
CONTINUE = "--prompts 2 --prompt-seconds 0.6 --seconds 0.5 --resamples 5 --device cpu"
# Options that make a command small, by verb and recipe; they replace those of the page.
MINIATURE = {
    "prepare corpus": "",
    "prepare corpus LibriLight": "--max-seconds 1.3 --workers 1",
    "prepare subset data/librispeech.jsonl": "--hours 0.002",
    "prepare subset data/librilight.jsonl": "--hours 0.001",
    "prepare stories": "--workers 1",
    "prepare topic-cloze": "",
    "train codebook *": TOKENIZER,
    "train [als]* hubert_*": f"{TOKENIZER} --set codebook.units=6",
    "train all d2v2_*": f"{TOKENIZER} --set codebook.units=6",
    "train lm speechlm_*": f"{LM} --set lm.compile=false --device cpu",
    "train lm compare_*": f"{LM} --device cpu",
    "train lm stories*": f"{LM} --set lm.unique_tokens=130 --set lm.loop.accumulate=1 --device cpu",
    "train vocoder vocoder_mhubert": f"{VOCODER_LM} --device cpu",
    "train vocoder vocoder_twist": "--device cpu",
    "train recode": "",
    "train bundle": "",
    "recipes show": "",
    "encode": "--device cpu",
    "tokenize": "--device cpu",
    "convert": "",
    "recode": "",
    "plot": "--device cpu",
    "evaluate abx": "--device cpu",
    "evaluate bitrate": PAIRS,
    "evaluate boundaries": PAIRS,
    "evaluate purity": PAIRS,
    "evaluate lexical": PAIRS,
    "evaluate syntactic": PAIRS,
    "evaluate cloze": PAIRS,
    "evaluate salmon": PAIRS,
    "evaluate resynthesis": f"--limit 1 {PAIRS}",
    "evaluate continuation": CONTINUE,
    "evaluate speed": "--systems miniature --repeats 1 --device cpu --precision float32",
    "evaluate report": "",
    "scale plan speech": PLAN,
    "scale run": f"{RUN} --device cpu",
    "scale score": "--device cpu",
    "scale collect": "",
    "scale fit": "--bootstrap 5",
    "scale predict": "",
    "scale plot": "--bootstrap 5",
    "scale report": "--bootstrap 5",
    "examples/rival_units.py": "--units 2 --device cpu",
}
# Programs of others that are not dependencies here; what they read is written by the command before.
OTHERS = {"fastabx", "mkdir"}
# Quick enough for `make test`; they need no other command before them.
QUICK = re.compile(
    r"mkdir|prepare (corpus|subset data/librispeech)|train (losspred hubert|all d2v2)_833|recipes show"
    r"|scale plan speech --out|scale collect evals|scale predict speech --against"
)


@dataclass(frozen=True)
class Step:
    """A command of the page, or a block of Python.

    Args:
        section: heading above it.
        words: program and arguments, or ("python-block", code).
        output: file that standard output goes to.
    """

    section: str
    words: tuple[str, ...]
    output: str | None = None

    @property
    def text(self) -> str:
        return shlex.join(self.words)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments of syllablelm; none for other programs. torchrun's processes are one here."""
        words = self.words
        if words[0] == "torchrun":
            return words[words.index("syllablelm") + 1 :]
        return words[1:] if words[0] == "syllablelm" else ()

    @property
    def entry(self) -> str | None:
        """Key of MINIATURE that this command has."""
        spoken = " ".join(self.arguments or self.words[1:])
        found = (key for key in MINIATURE if fnmatchcase(f"{spoken} ", f"{key} *"))
        return max(found, key=len, default=None)


def shrink(step: Step) -> list[str]:
    """Return the words of a command with the options of its miniature in place of its own."""
    assert step.entry is not None
    words, small = list(step.arguments or step.words[1:]), shlex.split(MINIATURE[step.entry])
    for option in {word for word in small if word.startswith("--")} - {"--set"}:
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    for number, smaller in SMALLER.items():
        words = [word.replace(number, smaller) for word in words]
    return words + small


def read_steps(page: str) -> list[Step]:
    """Return the commands and Python blocks of the page in its order."""
    steps = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE):
        heading = section.split("\n", 1)[0]
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
            if language == "python":
                steps.append(Step(heading, ("python-block", block)))
                continue
            for line in command_lines(block):
                words = shlex.split(line, comments=True)
                output = words.pop() if len(words) > 1 and words[-2] == ">" else None
                steps.append(Step(heading, tuple(words[: -1 if output else None]), output))
    return steps


STEPS = read_steps(PAGE)


def test_the_page_is_read_whole() -> None:
    assert len(STEPS) > 150 and len({step.section for step in STEPS}) > 15
    assert not [step.text for step in STEPS if "$" in step.text and step.words[0] != "python-block"]
    for table in (*(f"SyllableLM, Table {n}" for n in (1, 2, 4, 5, 6, 7, 9)), "SyllableLM, Tables 3 and 8"):
        assert any(step.section.startswith(table) for step in STEPS), table
    for block in blocks(PAGE, "bash"):
        checked = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
        assert checked.returncode == 0, checked.stderr


def test_every_command_has_a_miniature_and_no_miniature_is_left() -> None:
    mine = [step for step in STEPS if step.words[0] != "python-block" and step.words[0] not in OTHERS]
    assert not [step.text for step in mine if step.entry is None]
    assert not set(MINIATURE) - {step.entry for step in mine}


def test_a_command_without_a_miniature_is_noticed() -> None:
    for text in ("evaluate nothing data", "train all tiny", "train lm speechlm", "scale", "encoded x"):
        assert Step("", ("syllablelm", *text.split())).entry is None, text
    (first, last) = read_steps("## A\n```bash\nfor a in 1 2; do\n    syllablelm encode x$a > ${a}b\ndone\n```\n")
    assert (first.arguments, first.output, last.arguments) == (("encode", "x1"), "1b", ("encode", "x2"))


def test_every_recipe_on_the_page_exists() -> None:
    named = {step.arguments[2] for step in STEPS if step.arguments[:1] == ("train",)
             and step.arguments[1] not in ("recode", "bundle")}  # fmt: skip
    named |= {step.arguments[3] for step in STEPS if step.arguments[:2] == ("scale", "run")}
    prose = re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    named |= set(re.findall(r"`((?:hubert|d2v2|speechlm|compare|vocoder|scaling)_[\w*]+)`", prose))
    assert len(named) > 15
    assert not [name for name in named if not any(fnmatch(recipe, name) for recipe in recipe_names())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from helpers.reproduce_inputs import make_inputs

    return make_inputs(tmp_path_factory.mktemp("reproduce"))


def test_every_input_of_the_page_is_made(folder: Path) -> None:
    table = PAGE.split("## Inputs\n", 1)[1].split("\n## ")[0]
    names = [name for line in table.splitlines() if line.startswith("| `") for name in
             re.findall(r"`([^`]+)`", line.split("|")[1])]  # fmt: skip
    assert len(names) > 15
    assert not [name for name in names if not any(folder.glob(re.sub("SET|NAME", "*", name.rstrip("/"))))]


@pytest.fixture(autouse=True)
def short_transcripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random Whisper finds no end."""
    start = recognizers.WhisperRecognizer.__init__

    def short(self: recognizers.WhisperRecognizer, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        self._search.max_new_tokens = 6

    monkeypatch.setattr(recognizers.WhisperRecognizer, "__init__", short)


def give_scores(study: Path) -> None:
    """Put scores that rise with compute in place of those of models of noise, which follow no law."""
    files = sorted(study.glob("runs/*/scores.json"))
    assert files
    for file in files:
        scores, record = (json.loads(path.read_text(encoding="utf-8")) for path in (file, file.parent / "run.json"))
        raised = {name: 0.5 * (record["params"] * record["tokens"]) ** 0.2 for name in scores}
        file.write_text(json.dumps(raised), encoding="utf-8")


def do(step: Step, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of the page in its folder; one that fails fails the test."""
    monkeypatch.chdir(folder)
    if step.words[0] == "python-block":
        monkeypatch.setenv("MPLBACKEND", "agg")
        exec(compile(step.words[1], step.section, "exec"), {})
        return
    if step.words[0] in OTHERS:
        if step.words[0] == "mkdir":
            subprocess.run(step.words, check=True)
        return
    words = shrink(step)
    if not step.arguments:
        monkeypatch.setattr("sys.argv", words)
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        return
    ended = run(*words)
    assert ended.status == 0, f"{shlex.join(words)}\n{ended.err[-2000:]}"
    if words[:2] == ["scale", "score"]:
        give_scores(folder / words[2])
    if step.output:
        Path(step.output).write_text(ended.out, encoding="utf-8")
    if "--out" in words:
        assert Path(words[words.index("--out") + 1]).exists()


def test_quick_commands_run(run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first tokenizer, plans and published laws, in a folder of their own."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    steps = [step for step in STEPS if QUICK.match(" ".join(step.arguments or step.words))]
    assert len(steps) > 10
    for step in steps:
        do(step, run, copy, monkeypatch)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
@pytest.mark.parametrize("step", [pytest.param(step, id=f"{n:03d} {step.text[:90]}") for n, step in enumerate(STEPS)])
def test_a_command_runs(step: Step, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do(step, run, folder, monkeypatch)
