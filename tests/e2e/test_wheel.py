"""The package as users get it: built, installed without its source tree, used from another folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from syllablelm import Tokenizer, __version__, load_audio
from syllablelm.core.models import BUNDLED
from syllablelm.core.recipes import recipe_names

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 90e6
# What the package is made of, code and data.
SUFFIXES = {".css", ".flac", ".js", ".json", ".jsonl", ".md", ".npy", ".py", ".safetensors", ".toml", ".typed"}

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the source tree and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def build(source: Path, kind: str, out: Path) -> Path:
    pytest.importorskip("hatchling")
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", out, cwd=source)
    (built,) = out.iterdir()
    return built


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.CRC for item in archive.infolist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment: the wheel itself, and the packages it needs, which this one has."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin/python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", wheel]
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=home)
    # After the installation, which must not see the package of this environment. Its own .pth files do not count there.
    here = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    (Path(packages) / "dependencies.pth").write_text("\n".join(sorted(here)) + "\n", encoding="utf-8")
    return home / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"syllablelm-{__version__}-py3-none-any.whl" and wheel.stat().st_size < MOST_BYTES
    names = contents(wheel)
    information = {name for name in names if name.startswith(f"syllablelm-{__version__}.dist-info/")}
    own = [Path(name) for name in set(names) - information]
    assert all(path.parts[0] == "syllablelm" and path.suffix in SUFFIXES for path in own)
    assert not [path for path in own for part in path.parts if part.startswith((".", "test", "conftest", "tmp"))]
    source = [path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert set(own) == {path.relative_to(ROOT / "src") for path in source if "egg-info" not in str(path)}
    assert Path("syllablelm/py.typed") in own and Path("syllablelm/recipes/small.toml") in own


def test_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"syllablelm-{__version__}.dist-info/METADATA").decode()
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert licences and "License-Expression: MIT" in text and "Description-Content-Type: text/markdown" in text
    for line in ("Requires-Python: >=3.10", "Classifier: Programming Language :: Python :: 3.13", "Project-URL: "):
        assert f"\n{line}" in text
    requirements = [line for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    assert not [line for line in requirements if "://" in line or "file:" in line]


def test_it_works_from_anywhere(binaries: Path, tmp_path: Path) -> None:
    place = run(binaries / "python", "-c", "import syllablelm; print(syllablelm.__file__)", cwd=tmp_path)
    assert Path(place.strip()).is_relative_to(binaries.parent)
    command = binaries / "syllablelm"
    assert run(command, "--version", cwd=tmp_path).split()[-1] == __version__
    listed = run(command, "recipes", "list", "--format", "json", cwd=tmp_path).splitlines()
    assert [json.loads(recipe)["name"] for recipe in listed] == recipe_names()
    shutil.copy(BUNDLED / "sample.flac", tmp_path / "speech.flac")
    record = json.loads(run(command, "tokenize", "speech.flac", "--device", "cpu", cwd=tmp_path))
    segmentation = Tokenizer.load("small", device="cpu").encode(load_audio(BUNDLED / "sample.flac"))
    assert segmentation.unit is not None and record["unit"] == segmentation.unit.tolist()


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    source = tmp_path / f"syllablelm-{__version__}"
    for name in ("LICENSE", "README.md", "CITATION.cff", "Makefile", "constraints.txt", "tests/conftest.py", "docs"):
        assert (source / name).exists()
    assert not (source / ".venv").exists() and not [*source.rglob("*.pyc")]
    rebuilt = contents(build(source, "wheel", tmp_path / "again"))
    assert {item for item in contents(wheel).items() if not item[0].endswith("RECORD")} <= rebuilt.items()
