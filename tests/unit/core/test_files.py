from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from syllablelm.core import files
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.files import (
    JSON_ESCAPES,
    atomic_path,
    file_below,
    find_files,
    first_keys,
    id_below,
    json_objects,
    lock_file,
    read_each,
    refuse_inputs,
    remove_leftovers,
    scratch_folder,
    text_lines,
    write_json_lines,
)


def test_atomic_path_leaves_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_path(tmp_path / "made") as temporary:
        temporary.write_text("x")
        assert not (tmp_path / "made").exists() and temporary.parent == tmp_path
    assert os.stat(tmp_path / "made").st_mode == os.stat(tmp_path / "plain").st_mode


def test_a_name_that_is_taken_is_the_one_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years")
    with pytest.raises(OSError) as error, atomic_path(tmp_path / "taken") as temporary:
        temporary.mkdir()
    assert error.value.filename == str(tmp_path / "taken") and ".tmp" not in str(error.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "thesis.txt"]


@pytest.mark.parametrize("name", ["state.pt", "out", "a.b[1].c"])
def test_leftovers_of_one_name_are_removed(tmp_path: Path, name: str) -> None:
    path, others = tmp_path / name, {name, f"{name}.d", f".{name}", f".{name}.lock"}
    for other in ("stat.pt", "state", "out.c", "a.b[1]"):
        if other != name:
            with atomic_path(tmp_path / other) as temporary:
                others.add(temporary.name)
                temporary.touch()
                temporary.rename(tmp_path / f"kept{temporary.name}")
                temporary.touch()
            others = others - {temporary.name} | {other, f"kept{temporary.name}"}
    for other in others:
        (tmp_path / other).touch()
    with atomic_path(path) as first, atomic_path(path) as second:
        first.mkdir()
        (first / "half").touch()
        second.touch()
        remove_leftovers(path)
        assert not first.exists() and not second.exists()
        first.touch()
        second.touch()
    assert {item.name for item in tmp_path.iterdir()} == others
    remove_leftovers(tmp_path / "missing" / name)


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / ".lock"
    refused = []

    def take() -> None:
        try:
            with lock_file(path):
                pass
        except BlockingIOError:
            refused.append(True)

    for _ in range(2):
        with lock_file(path):
            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
        assert not path.exists()
    assert refused == [True, True]
    with pytest.raises(KeyError), lock_file(path):
        raise KeyError
    take()
    assert refused == [True, True] and not path.exists()


def test_a_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    script = "import sys; from syllablelm.core.files import lock_file\n"
    script += "with lock_file(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), lock_file(path):
            pass
        process.kill()
        process.wait()
    assert path.exists()
    with lock_file(path):
        pass
    assert not path.exists()


def test_files_of_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("b.npy", "a/c.npz", "a/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    files = find_files(tmp_path, (".npy", ".npz"))
    assert [id_below(tmp_path, file) for file in files] == ["a/c", "b"]
    assert find_files(tmp_path / "b.npy", (".npz",)) == [tmp_path / "b.npy"]
    assert id_below(tmp_path / "a" / "d.x.txt", tmp_path / "a" / "d.x.txt") == "d.x"
    with pytest.raises(FormatError, match=r"no \.units file below this folder"):
        find_files(tmp_path, (".units",))


def test_lines_have_places_and_no_ends(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("é 1\r\n\n2\t".encode())
    assert list(text_lines(file)) == [(f"{file}:1", "é 1"), (f"{file}:2", ""), (f"{file}:3", "2\t")]


def test_objects_that_were_written_are_read_with_their_places(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.jsonl"
    write_json_lines(file, [{"a": "é"}, {"b": [1, None]}])
    assert list(json_objects(file)) == [(f"{file}:1", {"a": "é"}), (f"{file}:2", {"b": [1, None]})]
    write_json_lines(file, [])
    assert (file.read_bytes(), list(json_objects(file))) == (b"", [])


def test_rows_that_cannot_be_written_leave_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    write_json_lines(file, [{"a": 1}])
    with pytest.raises(TypeError):
        write_json_lines(file, [{"a": 2}, {"a": object()}])
    assert list(json_objects(file)) == [(f"{file}:1", {"a": 1})]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1}\n\n[1]\n', "a.jsonl:3: expected a JSON object, got list"),
        (b"\n{", "a.jsonl:2: not valid JSON"),
        (b"\xff", "a.jsonl:1: not a text in UTF-8"),
        (None, "a.jsonl: cannot be read"),
    ],
)
def test_files_that_hold_no_objects(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "a.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FormatError, match=reason):
        list(json_objects(file))


def test_first_keys_tell_the_kind_of_a_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    for content, keys in [('\n{"a": 1, "b": 2}\nnonsense', {"a", "b"}), ("", None), ("[1]", set()), ("{", set())]:
        file.write_text(content)
        assert first_keys(file) == keys
    assert first_keys(tmp_path / "gone") == set()


def test_scratch_folders_of_killed_processes_are_removed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = """
import os, signal
from syllablelm.core.files import atomic_path, scratch_folder
with scratch_folder() as folder, atomic_path(os.path.join(os.environ["TMPDIR"], "out.wav")) as part:
    (folder / "voice.wav").write_text("x")
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with scratch_folder() as alive:
        (alive / "own").touch()
        for _ in range(2):
            environment = {**os.environ, "TMPDIR": str(tmp_path)}
            assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -9
        # The second one removed what the first had left, and nothing of a process that lives.
        assert len(list(tmp_path.iterdir())) == 3 and (alive / "own").exists()
        files._swept.clear()
        with scratch_folder() as other:
            assert {*tmp_path.iterdir()} == {alive, other} and other.stat().st_mode & 0o77 == 0
    assert list(tmp_path.iterdir()) == []


# Each of these either names a file below the folder, or is refused.
SAFE_IDS = [
    "a",
    "a/b",
    "a.b.c",
    "...",
    "a..b/..c",
    " a ",
    "a.",
    "con",
    "NUL/aux",
    "a:b",
    "~",
    "~root/a",
    "$HOME",
    "-rf",
    "*",
    "%2e%2e%2fa",
    "\u00e9",
    "e\u0301",
    "\uff0f\uff0fa",  # full-width slashes
    "\u2215a\u2044b\u29f8",  # division, fraction and big slashes
    "\u2024\u2024/a",  # one-dot leaders
    "\uff0e\uff0e/a",  # full-width stops
    "\uff3ca",  # full-width backslash
    "\u200fa",
    "x" * 250,
    "/".join(["x" * 100] * 30),
]
UNSAFE_IDS = [
    "",
    "/",
    "//",
    "/a",
    "//a",
    "///a",
    "//host/share/a",
    "a/",
    "a//b",
    ".",
    "..",
    "./a",
    "a/.",
    "a/./b",
    "../a",
    "a/..",
    "a/../../b",
    "a/../b",
    "..\\a",
    "\\a",
    "\\\\host\\share",
    "a\\..\\..\\b",
    "C:\\a",
    "C:/a",
    "c:/a",
    "a\0b",
    "a\0/../b",
    "a\nb",
    "a\rb",
    "a\tb",
    "\x1b[2Ja",
    "\x7f",
    "\x85",
    "a\u2028b",
    "\u202egnp.exe",
    "a\u2066b",
    "caf\udce9",
    "\ud800",
    "x" * 252,
    "\u00e9" * 126,
    "x" * 256 + "/a",
    "/".join(["x" * 200] * 20),
]


@pytest.mark.parametrize("id", SAFE_IDS)
def test_an_id_names_a_file_below_the_folder(tmp_path: Path, id: str) -> None:
    file = file_below(tmp_path, id, ".wav")
    with atomic_path(file) as temporary:
        temporary.touch()
    (found,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert found == file and found.resolve().is_relative_to(tmp_path.resolve())
    assert found.relative_to(tmp_path).as_posix() == f"{id}.wav"


@pytest.mark.parametrize("id", UNSAFE_IDS)
@pytest.mark.parametrize("folder", [".", "new"])
def test_an_id_that_leads_elsewhere_is_refused(tmp_path: Path, id: str, folder: str) -> None:
    with pytest.raises(InputError, match="cannot name a wav file: ") as error:
        file_below(tmp_path / folder, id, ".wav")
    assert len(str(error.value)) <= 300 and str(error.value).isprintable()


def test_different_ids_name_different_files(tmp_path: Path) -> None:
    assert len({file_below(tmp_path, id, ".wav") for id in SAFE_IDS}) == len(SAFE_IDS)


def test_links_in_the_folder_are_followed(tmp_path: Path) -> None:
    (tmp_path / "out" / "real").mkdir(parents=True)
    (tmp_path / "out" / "away").symlink_to(tmp_path)
    (tmp_path / "out" / "inside").symlink_to("real")
    assert file_below(tmp_path / "out", "inside/a", ".wav").name == "a.wav"
    for id in ("away/a", "inside/b/../../../a", "away/deep/a"):
        with pytest.raises(InputError, match="cannot name"):
            file_below(tmp_path / "out", id, ".wav")


def test_an_output_is_no_input_by_any_of_its_names(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.touch()
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("a.wav", "link", "hard", "folder/a.wav", "../" + tmp_path.name + "/a.wav"):
        with pytest.raises(InputError, match="is an input of this run; choose another output"):
            refuse_inputs([tmp_path / name], ["gone", file])
    (tmp_path / "copy").write_bytes(file.read_bytes())
    refuse_inputs([tmp_path / "copy", tmp_path / "new", "nul\0"], [file, "nul\0"])
    with pytest.raises(InputError, match="link: is an input of this run, and 1 more such"):
        refuse_inputs([tmp_path / "link", tmp_path / "hard"], [file])


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    script = "import sys; from syllablelm.core.files import atomic_path\n"
    script += "with atomic_path(sys.argv[1]) as part: part.mkdir(); (part / 'a').touch(); print(1, flush=True); input()"
    command = [sys.executable, "-c", script]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*command, str(tmp_path / "one")], **pipes) as killed,
        subprocess.Popen([*command, str(tmp_path / "two")], **pipes) as running,
    ):
        for process in (killed, running):
            assert process.stdout is not None and process.stdout.readline() == "1\n"
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 2
        with atomic_path(tmp_path / "three") as part:
            part.touch()
            assert {path.name.split(".")[1] for path in tmp_path.iterdir()} == {"two", "three"}
        running.communicate("\n")
    assert {path.name for path in tmp_path.iterdir()} == {"two", "three"}


def test_names_of_any_length_are_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "\u00e9" * 127, "x." + "y" * 253, "a" + ".b" * 127):
        with atomic_path(tmp_path / name) as part:
            part.touch()
        assert (tmp_path / name).is_file()
    with pytest.raises(OSError, match="name too long") as error, atomic_path(tmp_path / ("x" * 256)) as part:
        part.touch()
    assert error.value.filename == str(tmp_path / ("x" * 256))


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    row = {"id": os.fsdecode(b"caf\xe9"), "text": "\u017dlut\u00fd \U0001f600"}
    write_json_lines(tmp_path / "a.jsonl", [row])
    assert [value for _, value in json_objects(tmp_path / "a.jsonl")] == [row]
    assert b"caf\\udce9" in (tmp_path / "a.jsonl").read_bytes()
    assert "\u017d\U0001f600".encode("latin-1", JSON_ESCAPES) == b"\\u017d\\ud83d\\ude00"


def test_hidden_files_are_passed_over_and_loops_end(tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "data"
    for name in ("a.txt", "._a.txt", ".hidden/b.txt", "deep/c.txt", "deep/._c.txt", "d.TXT"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "deep" / "loop").symlink_to(root)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.txt").touch()
    assert find_files(root, (".txt",)) == [root / name for name in ("a.txt", "deep/c.txt", "link/e.txt")]
    assert find_files(root / "._a.txt", (".txt",)) == [root / "._a.txt"]


def test_bad_files_of_a_folder_are_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]
    for file in files:
        file.write_text("1\n2\n")

    def read(file: Path) -> list[str]:
        return [text for _, text in text_lines(file)]

    files[1].write_bytes(b"1\n\xff\n")
    assert list(read_each(tmp_path, files, read)) == ["1", "2", "1", "2"]
    shown, count = capsys.readouterr().err.splitlines()
    assert shown.startswith(f"skipped: {files[1]}:2: not a text in UTF-8") and count.endswith("skipped 1 of 3 files")
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    assert tmp_path / "gone.txt" in find_files(tmp_path, (".txt",))
    assert len(list(read_each(tmp_path, [files[0], tmp_path / "gone.txt"], read))) == 2
    assert "gone.txt: cannot be read (No such file" in capsys.readouterr().err
    for some in ([files[1]], [files[1], files[1]]):
        with pytest.raises(FormatError, match=r"b\.txt:2"):
            list(read_each(tmp_path, some, read))
    files += [tmp_path / f"{number}.txt" for number in range(30)]
    list(read_each(tmp_path, files, lambda file: text_lines(file) if file.exists() else read(files[1])))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21 and lines[-1].endswith("skipped 31 of 33 files (11 are not named)")
