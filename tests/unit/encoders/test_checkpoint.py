from __future__ import annotations

import argparse
import collections
import enum
import os
import pathlib
import pickle
import subprocess
import sys
import types
import typing
import zipfile

import numpy as np
import pytest
import torch

from syllablelm.core.errors import FormatError
from syllablelm.encoders.checkpoint import Inert, read_checkpoint

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(value, path, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def refuse(path, match):
    with pytest.raises(FormatError, match=match) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < len(str(path)) + 200


class Call:
    """Pickled, it calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture
def foreign(monkeypatch):
    """A package named fairseq whose classes say when they are used; it is gone before the file is read."""
    used = []
    module = types.ModuleType("fairseq.data.dictionary")
    root = types.ModuleType("fairseq")

    class Dictionary:
        def __init__(self):
            self.symbols = ["<s>", "0"]

        def __setstate__(self, state):
            used.append(state)

    class Choice(enum.Enum):
        LAYER_NORM = "layer_norm"

    for value in (Dictionary, Choice):
        value.__module__, value.__qualname__ = module.__name__, value.__name__
        setattr(module, value.__name__, value)
    monkeypatch.setitem(sys.modules, "fairseq", root)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield module
    assert used == []


class TestWhatIsRead:
    @FORMATS
    def test_weights(self, tmp_path, zipped):
        found = read_checkpoint(save({"model": WEIGHTS, "step": 7}, tmp_path / "x.pt", zipped))
        assert found["step"] == 7 and found["model"].keys() == WEIGHTS.keys()
        for name, tensor in WEIGHTS.items():
            assert torch.equal(found["model"][name], tensor) and found["model"][name].dtype == tensor.dtype

    def test_the_name_of_the_file_says_nothing(self, tmp_path):
        found = read_checkpoint(str(save(WEIGHTS, tmp_path / "x.safetensors")))
        assert torch.equal(found["b"], WEIGHTS["b"])

    @FORMATS
    def test_a_namespace_and_the_like(self, tmp_path, zipped):
        value = {
            "model": WEIGHTS,
            "args": argparse.Namespace(layers=12, names=["a"], at=pathlib.PurePosixPath("x")),
            "found": collections.defaultdict(list, {1: [2]}),
            "last": collections.deque([1, 2], maxlen=5),
            "types": [dict, typing.Any],
            "best": np.float64(3.0),
            "curve": np.arange(3),
        }
        found = read_checkpoint(save(value, tmp_path / "x.pt", zipped))
        assert torch.equal(found["model"]["a.weight"], WEIGHTS["a.weight"])
        args = found["args"]
        assert isinstance(args, Inert) and not isinstance(args, argparse.Namespace)
        assert args.state["layers"] == 12 and args.state["names"] == ["a"]
        assert found["found"] == {1: [2]} and found["last"] == [1, 2]
        assert found["types"][0] is not dict and issubclass(found["types"][0], Inert)
        assert isinstance(found["best"], Inert) and isinstance(found["curve"], Inert)

    @FORMATS
    def test_classes_of_fairseq_are_not_run(self, tmp_path, zipped, foreign, monkeypatch):
        value = {
            "model": WEIGHTS,
            "task_state": {"dictionary": foreign.Dictionary()},
            "mode": foreign.Choice.LAYER_NORM,
        }
        save(value, tmp_path / "x.pt", zipped)
        for with_package in (True, False):
            if not with_package:
                monkeypatch.delitem(sys.modules, foreign.__name__)
            found = read_checkpoint(tmp_path / "x.pt")
            dictionary = found["task_state"]["dictionary"]
            assert isinstance(dictionary, Inert) and not isinstance(dictionary, foreign.Dictionary)
            assert dictionary.state == {"symbols": ["<s>", "0"]} and found["mode"].args == ("layer_norm",)

    def test_torch_does_not_remember_what_was_accepted(self, tmp_path):
        before = set(torch.serialization.get_safe_globals())
        path = save({"args": argparse.Namespace(a=1)}, tmp_path / "x.pt")
        read_checkpoint(path)
        assert set(torch.serialization.get_safe_globals()) == before
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)


class TestCode:
    @pytest.mark.parametrize("protocol", [2, 4])
    @FORMATS
    @pytest.mark.parametrize(
        ("function", "arguments", "name"),
        [
            (os.system, ("touch {}",), "posix.system"),
            (eval, ("open({!r}, 'w')",), "builtins.eval"),
            (exec, ("open({!r}, 'w')",), "builtins.exec"),
            (open, ("{}", "w"), "io.open"),
            (subprocess.call, ("touch {}",), "subprocess.call"),
            (torch.hub.load, ("{}", "x"), "torch.hub.load"),
        ],
    )
    def test_no_code_is_run(self, tmp_path, function, arguments, name, zipped, protocol):
        trace = tmp_path / "trace"
        call = Call(function, *(argument.format(str(trace)) for argument in arguments))
        path = tmp_path / "x.pt"
        torch.save(
            {"model": WEIGHTS, "args": call}, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol
        )
        # Protocol 4 names things by an instruction that torch's reader does not know.
        refuse(path, rf"holds code \({name}\); refused" if protocol == 2 else "without running code")
        assert not trace.exists()

    def test_the_crafted_files_would_run(self, tmp_path):
        path = save({"args": Call(exec, f"open({str(tmp_path / 'trace')!r}, 'w').close()")}, tmp_path / "x.pt")
        with zipfile.ZipFile(path) as archive:
            pickle.loads(archive.read("x/data.pkl"))
        assert (tmp_path / "trace").exists()

    @FORMATS
    def test_behind_harmless_objects(self, tmp_path, zipped):
        trace = tmp_path / "trace"
        hidden = argparse.Namespace(x=[{"y": Call(os.system, f"touch {trace}")}])
        refuse(save({"model": WEIGHTS, "args": hidden}, tmp_path / "x.pt", zipped), "posix.system")
        assert not trace.exists()

    def test_a_plain_pickle(self, tmp_path):
        trace, path = tmp_path / "trace", tmp_path / "x.pt"
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path.write_bytes(pickle.dumps({"args": Call(os.system, f"touch {trace}")}, protocol))
            refuse(path, "not a torch file|holds code")
        assert not trace.exists()

    @FORMATS
    def test_whole_modules(self, tmp_path, zipped):
        refuse(
            save({"model": torch.nn.Linear(2, 2)}, tmp_path / "x.pt", zipped),
            r"holds code \(torch\.nn\.modules\.linear",
        )

    def test_attributes_of_harmless_modules(self, tmp_path):
        # Written by hand: the name of a function reached through a harmless class.
        for line in (b"cargparse\n_os.system\n", b"ctyping\nsys.modules\n", b"cfairseq\nx;y\n", b"c\x1b[31m\nred\n"):
            path = tmp_path / "x.pt"
            path.write_bytes(b"\x80\x02" + line + b"X\x02\x00\x00\x00ls\x85R.")
            refuse(path, "holds code")

    def test_torchscript(self, tmp_path):
        save(WEIGHTS, tmp_path / "x.pt")
        with zipfile.ZipFile(tmp_path / "x.pt", "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x/constants.pkl", pickle.dumps((), 2))
        refuse(tmp_path / "x.pt", r"holds code \(a TorchScript program\); refused")


class TestDamage:
    def test_missing(self, tmp_path):
        refuse(tmp_path / "none.pt", "no such file")

    def test_a_folder(self, tmp_path):
        refuse(tmp_path, "a folder where a checkpoint file is needed")

    def test_empty(self, tmp_path):
        (tmp_path / "x.pt").write_bytes(b"")
        refuse(tmp_path / "x.pt", "empty file")

    @FORMATS
    def test_cut_short_anywhere(self, tmp_path, zipped):
        path = save({"model": WEIGHTS, "args": argparse.Namespace(a=1)}, tmp_path / "x.pt", zipped)
        data = path.read_bytes()
        for length in {*range(1, 40), *range(40, len(data) - 1, 37), len(data) - 1}:
            path.write_bytes(data[:length])
            refuse(path, "not a torch file")

    @pytest.mark.parametrize(
        "data", [b"hello world\n" * 9, b"RIFF" + bytes(400), b"\x80\x02}.", b"\x89PNG\r\n", bytes(1000), b"{}"]
    )
    def test_other_files(self, tmp_path, data):
        (tmp_path / "x.pt").write_bytes(data)
        refuse(tmp_path / "x.pt", "not a torch file")

    @pytest.mark.parametrize(
        ("compression", "match"), [(zipfile.ZIP_STORED, "not a torch file"), (zipfile.ZIP_DEFLATED, "compressed zip")]
    )
    def test_other_archives(self, tmp_path, compression, match):
        with zipfile.ZipFile(tmp_path / "x.pt", "w", compression) as archive:
            archive.writestr("readme.txt", "words " * 50)
        refuse(tmp_path / "x.pt", match)

    @FORMATS
    def test_no_dictionary(self, tmp_path, zipped):
        refuse(save(torch.ones(3), tmp_path / "x.pt", zipped), "holds a Tensor where a dictionary of weights is needed")
