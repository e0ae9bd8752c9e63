"""What the buttons do, on a random tokenizer and on stand-ins for the parts that speak."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syllablelm.core.errors import AudioError, FormatError, InputError, SyllableLMError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import read_alignments
from syllablelm.data.audio import SAMPLE_RATE, load_audio, save_audio
from syllablelm.demo import actions
from syllablelm.demo.actions import (
    SAMPLE,
    SAMPLE_ALIGNMENT,
    DemoModel,
    continue_recording,
    explain,
    resynthesize,
    show_units,
    unit_rows,
)
from syllablelm.encoders.hub import HubEncoder
from syllablelm.formats import read_segmentations
from syllablelm.formats.record import from_record
from syllablelm.tokenizer.tokenizer import Tokenizer
from syllablelm.vocoder.speech_model import Continuation

RATE = 8000


class Voice:
    """Speaks every segmentation as a constant at 8 kHz; remembers what it was asked for."""

    sample_rate = RATE

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def decode(self, segmentation: Segmentation, *, seed: int) -> np.ndarray:
        self.asked.append({"units": segmentation, "seed": seed})
        return np.full(round(segmentation.duration * RATE), 0.25, dtype=np.float32)


class Speech:
    """Stands for a whole model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.resynthesizer = tokenizer, Voice()
        self.asked: list[dict[str, Any]] = []

    def continue_speech(self, waveform: np.ndarray, seconds: float, **options: Any) -> Continuation:
        self.asked.append({"samples": len(waveform), "seconds": seconds, **options})
        units = Segmentation.from_boundaries([0, 10, 25], unit=[4, 5])
        sound = np.full(round(seconds * RATE), 0.5, dtype=np.float32)
        return Continuation(sound, RATE, self.tokenizer.encode(waveform), units)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_folder, device="cpu")


@pytest.fixture
def plain(tokenizer: Tokenizer) -> DemoModel:
    return DemoModel("plain", tokenizer, None)


@pytest.fixture
def speaking(tokenizer: Tokenizer) -> DemoModel:
    speech: Any = Speech(tokenizer)
    return DemoModel("speaking", tokenizer, speech)


def test_units_are_the_tokenizers_in_every_form(plain: DemoModel, recordings: Path, tmp_path: Path) -> None:
    path = recordings / "r0.wav"
    shown = show_units(plain, str(path), tmp_path)
    expected = plain.tokenizer.encode(load_audio(path))
    assert from_record(shown.record) == expected
    assert (shown.record["id"], shown.record["path"]) == ("r0", "r0.wav")
    assert json.loads(shown.jsonl.read_text(encoding="utf-8")) == shown.record
    assert read_segmentations(shown.jsonl) == {"r0": expected}
    assert read_segmentations(shown.textgrid) == {"r0": expected}
    assert shown.textgrid.name == "r0.TextGrid"
    assert shown.picture.read_bytes().startswith(b"\x89PNG")
    assert expected.unit is not None
    assert [row[0] for row in shown.rows] == expected.unit.tolist()
    assert shown.summary.startswith(f"{len(expected)} units in {expected.duration:.2f} s (")
    assert re.findall(r'data-start="([^"]+)" data-end="([^"]+)"', shown.timeline) == [
        (f"{start:.4f}", f"{end:.4f}") for start, end in expected.seconds.tolist()
    ]
    assert "Reference" not in shown.timeline
    (sound,) = set(re.findall(r'data-sound="gradio_api/file=([^"]+)"', shown.timeline))
    np.testing.assert_allclose(load_audio(sound), load_audio(path), atol=1 / 32768)
    assert {file.parent.parent for file in (shown.picture, shown.jsonl)} == {tmp_path}


def test_units_take_one_pass_of_the_encoder(
    plain: DemoModel, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, inner = [], HubEncoder.encode_batches

    def watched(self: HubEncoder, batches: Any, *layers: Any) -> Any:
        return inner(self, (passes.append(len(batch)) or batch for batch in batches), *layers)

    monkeypatch.setattr(HubEncoder, "encode_batches", watched)
    show_units(plain, str(recordings / "r0.wav"), tmp_path)
    assert passes == [1]


def test_reference_syllables_of_the_sample_are_drawn(plain: DemoModel, tmp_path: Path) -> None:
    # Uploaded, it has another name.
    copy = tmp_path / "a.flac"
    shutil.copy(SAMPLE, copy)
    timeline = show_units(plain, str(copy), tmp_path).timeline
    syllables = read_alignments(SAMPLE_ALIGNMENT)["sample"].syllables
    labels = re.findall(r'aria-label="Reference syllables: ([^,]+), ', timeline)
    assert labels == [interval.label for interval in syllables]
    assert len(labels) > 20


def test_progress_grows_over_all_of_a_long_recording(
    speaking: DemoModel, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "BLOCK_SECONDS", 1)
    path, steps = str(recordings / "r2.wav"), []
    for action in (show_units, resynthesize, continue_recording):
        steps.clear()
        action(speaking, path, tmp_path, progress=lambda share, step: steps.append((share, step)))
        shares = [share for share, _ in steps]
        assert shares == sorted(set(shares))
        assert (min(shares) >= 0, max(shares) < 1) == (True, True)
        if action is not continue_recording:
            assert [step for _, step in steps] == ["Encoding"] * 3 + [steps[-1][1]]


def test_two_visitors_do_not_share_files(plain: DemoModel, recordings: Path, tmp_path: Path) -> None:
    first, second = (show_units(plain, str(recordings / "r0.wav"), tmp_path) for _ in range(2))
    assert first.jsonl != second.jsonl
    assert first.jsonl.is_file()
    assert second.jsonl.is_file()


def test_rows_are_in_seconds_and_milliseconds() -> None:
    segmentation = Segmentation(np.array([5, 10]), np.array([10, 33]), np.array([7, 3]), 50)
    assert unit_rows(segmentation) == [[7, 0.1, 0.2, 100], [3, 0.2, 0.66, 460]]
    assert unit_rows(Segmentation(np.array([5]), np.array([10]), None, 50)) == [["", 0.1, 0.2, 100]]


def test_resynthesis_writes_original_and_new(speaking: DemoModel, recordings: Path, tmp_path: Path) -> None:
    path = recordings / "r1.wav"
    spoken = resynthesize(speaking, str(path), tmp_path, seed=7)
    np.testing.assert_allclose(load_audio(spoken.first), load_audio(path), atol=1 / 32768)
    speech: Any = speaking.speech
    asked = speech.resynthesizer.asked
    assert asked == [{"units": speaking.tokenizer.encode(load_audio(path)), "seed": 7}]
    assert len(load_audio(spoken.second)) == pytest.approx(asked[0]["units"].duration * SAMPLE_RATE, abs=2)
    # Both are heard by the same segments.
    for name, file in (("Original", spoken.first), ("Resynthesis", spoken.second)):
        (track,) = re.findall(rf'aria-label="{name}" data-sound="gradio_api/file={file}">(.*?)</div>', spoken.timeline)
        assert track.count("<svg") == 1
        assert re.findall(r'data-start="([^"]+)"', track) == [
            f"{start:.4f}" for start in asked[0]["units"].seconds[:, 0].tolist()
        ]


def test_continuation_follows_the_prompt(speaking: DemoModel, recordings: Path, tmp_path: Path) -> None:
    path = recordings / "r2.wav"
    options: Any = {"prompt_seconds": 1.5, "seconds": 2.0, "temperature": 0.0, "seed": 3}
    spoken = continue_recording(speaking, str(path), tmp_path, **options)
    speech: Any = speaking.speech
    assert speech.asked == [{"samples": 24_000, "seconds": 2.0, "temperature": 0.0, "seed": 3}]
    whole, alone = load_audio(spoken.first), load_audio(spoken.second)
    assert len(whole) == pytest.approx(3.5 * SAMPLE_RATE, abs=2)
    assert len(alone) == pytest.approx(2.0 * SAMPLE_RATE, abs=2)
    # The prompt is the recording itself, low-passed by the voice's rate, so it is compared by its loudness.
    prompt, tail = whole[: round(1.4 * SAMPLE_RATE)], whole[-round(1.5 * SAMPLE_RATE) :]
    assert prompt.std() > 0.1 * load_audio(path)[:24_000].std()
    np.testing.assert_allclose(tail[:-200], 0.5, atol=0.02)
    assert "went on with 2 units in 0.50 s" in spoken.summary
    starts = [float(start) for start in re.findall(r'data-start="([^"]+)"', spoken.timeline)]
    assert starts[-2:] == pytest.approx([1.5, 1.7], abs=1e-3)


@pytest.mark.parametrize("action", [resynthesize, continue_recording])
def test_a_tokenizer_does_not_speak(plain: DemoModel, recordings: Path, tmp_path: Path, action: Any) -> None:
    with pytest.raises(InputError, match="plain is a tokenizer only"):
        action(plain, str(recordings / "r0.wav"), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"seed": None}, "the seed is missing", id="emptied seed"),
        pytest.param({"seed": -1}, "seed -1: must be a whole number from 0", id="negative seed"),
        pytest.param({"seed": 2**32}, "seed 4294967296: must be a whole number from 0", id="large seed"),
        pytest.param({"seed": 1.5}, "seed 1.5: must be a whole number", id="broken seed"),
        pytest.param({"seed": float("inf")}, "seed inf: must be a whole number", id="endless seed"),
        pytest.param({"prompt_seconds": None}, "the prompt's length is missing", id="emptied prompt"),
        pytest.param({"prompt_seconds": 0}, "must be above 0", id="no prompt"),
        pytest.param({"seconds": None}, "the continuation's length is missing", id="emptied length"),
        pytest.param({"temperature": None}, "the temperature is missing", id="emptied temperature"),
    ],
)
def test_fields_are_checked(
    speaking: DemoModel, recordings: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        continue_recording(speaking, str(recordings / "r0.wav"), tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_recordings_are_checked(
    plain: DemoModel, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="there is no recording"):
        show_units(plain, None, tmp_path)
    with pytest.raises(InputError, match=r"cannot show .* from 9 s"):
        show_units(plain, str(recordings / "r0.wav"), tmp_path, start=9)
    text = tmp_path / "words.wav"
    text.write_text("not audio", encoding="utf-8")
    with pytest.raises(AudioError) as caught:
        show_units(plain, str(text), tmp_path)
    assert explain(caught.value, str(text)).startswith("words.wav: ")
    save_audio(tmp_path / "click.wav", np.full(100, 0.5, dtype=np.float32))
    with pytest.raises(SyllableLMError, match="short"):
        show_units(plain, str(tmp_path / "click.wav"), tmp_path)
    monkeypatch.setattr(actions, "LONGEST_SECONDS", 1.0)
    with pytest.raises(InputError, match="lasts 2 s, this page takes at most 1 s"):
        show_units(plain, str(recordings / "r0.wav"), tmp_path)


def test_a_tokenizers_folder_opens_as_one(tokenizer_folder: Path) -> None:
    model = DemoModel.load(str(tokenizer_folder), device="cpu")
    assert model.speech is None
    assert model.tokenizer.num_units == 12


def test_a_missing_model_is_an_error() -> None:
    with pytest.raises(FormatError, match="nowhere"):
        DemoModel.load("./nowhere", device="cpu")


def test_a_damaged_part_is_an_error_and_not_left_out(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    folder.symlink_to(tokenizer_folder)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in tokenizer_folder.iterdir():
        (copy / file.name).symlink_to(file)
    for part in actions.SPEECH_FOLDERS:
        (copy / part).mkdir()
    with pytest.raises(FormatError):
        DemoModel.load(str(copy), device="cpu")
