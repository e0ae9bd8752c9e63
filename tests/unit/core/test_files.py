from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from syllablelm.core.errors import FormatError
from syllablelm.core.files import (
    atomic_path,
    find_files,
    first_keys,
    id_below,
    json_objects,
    lock_file,
    remove_leftovers,
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
