"""ABX: a slow loop over triplets, error rates that fastabx gave for the same frames, and files that it reads."""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.random_models import noise
from syllablelm import Tokenizer
from syllablelm.core.errors import InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.data.alignment import Alignment, Interval, Word
from syllablelm.data.audio import save_audio
from syllablelm.data.manifest import Recording
from syllablelm.evaluate.units.abx import AbxResult, evaluate_abx
from syllablelm.evaluate.units.abx_scores import PhoneToken, Speakers, abx_error_rate, item_lines, phone_tokens
from syllablelm.formats import open_writer

SPEAKERS: tuple[Speakers, ...] = ("within", "across")


def made_up(seed: int, count: int, dim: int) -> tuple[list[PhoneToken], list[np.ndarray]]:
    """Tokens of three phones in two contexts by three speakers, each a recording of its own with its frames."""
    rng = np.random.default_rng(seed)
    tokens, frames = [], []
    for number in range(count):
        phone, after, speaker = (str(rng.choice(list(names))) for names in ("ABC", "ST", "xyz"))
        length = int(rng.integers(1, 6))
        tokens.append(PhoneToken(f"r{number:03d}", 0.0, length / 50, phone, "P", after, speaker))
        if dim == 1:
            frames.append(rng.integers(0, 3, (length, 1)))
        else:
            vectors = rng.standard_normal((length, dim)) + "ABC".index(phone) * np.eye(dim)[0]
            frames.append(vectors.astype(np.float32))
    return tokens, frames


def slow_distance(a: np.ndarray, b: np.ndarray) -> float:
    def cost(i: int, j: int) -> float:
        if a.shape[1] == 1:
            return float(a[i, 0] != b[j, 0])
        x, y = a[i].astype(float), b[j].astype(float)
        return float(np.arccos(np.clip(x @ y / np.linalg.norm(x) / np.linalg.norm(y), -1, 1)) / np.pi)

    @cache
    def of(i: int, j: int) -> tuple[float, int]:
        """Cost and steps of the cheapest path to a pair; of equals the diagonal one, then the one along b."""
        if i == j == 0:
            return cost(0, 0), 1
        before = [of(i - di, j - dj) for di, dj in ((1, 1), (0, 1), (1, 0)) if i >= di and j >= dj]
        total, steps = min(before, key=lambda one: round(one[0], 6))
        return cost(i, j) + total, steps + 1

    total, steps = of(len(a) - 1, len(b) - 1)
    return round(total / steps, 5)


def slow_error_rate(tokens: list[PhoneToken], frames: list[np.ndarray], speakers: str) -> float:
    cells: dict[tuple[str, ...], list[float]] = {}
    for a, b, x in product(range(len(tokens)), repeat=3):
        one, other, third = tokens[a], tokens[b], tokens[x]
        same = {(t.before, t.after) for t in (one, other, third)}
        if x == a or len(same) > 1 or one.phone == other.phone or third.phone != one.phone:
            continue
        if one.speaker != other.speaker or (third.speaker == one.speaker) != (speakers == "within"):
            continue
        near, far = (slow_distance(frames[x], frames[k]) for k in (a, b))
        wrong = 0.5 if near == far else float(near > far)
        cells.setdefault((one.phone, other.phone, one.speaker, third.speaker, one.after), []).append(wrong)
    pairs: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for (phone, other, speaker, _, _), values in cells.items():
        pairs.setdefault((phone, other), {}).setdefault(speaker, []).append(sum(values) / len(values))
    means = [np.mean([np.mean(rates) for rates in by.values()]) for by in pairs.values()]
    return float(np.mean(means)) if means else float("nan")


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 18), dim=st.sampled_from([1, 4]))
@pytest.mark.parametrize("speakers", SPEAKERS)
def test_every_triplet_by_a_slow_loop(speakers: Speakers, seed: int, count: int, dim: int) -> None:
    tokens, frames = made_up(seed, count, dim)
    score = abx_error_rate(tokens, frames, speakers)
    assert score.error_rate == pytest.approx(slow_error_rate(tokens, frames, speakers), abs=1e-6, nan_ok=True)


# zerospeech_abx and Score(..., "identical") of fastabx 0.9.0, torchdtw 0.4.2, max_size_group=None, max_x_across=None.
FASTABX = {
    (1, "within"): (0.4936287, 32),
    (1, "across"): (0.4879658, 60),
    (4, "within"): (0.4043651, 24),
    (4, "across"): (0.3399802, 60),
}


@pytest.mark.parametrize(("dim", "speakers"), list(FASTABX))
def test_error_rates_are_those_of_fastabx(dim: int, speakers: Speakers) -> None:
    score = abx_error_rate(*made_up(11, 60, dim), speakers)
    assert score.error_rate == pytest.approx(FASTABX[dim, speakers][0], abs=1e-6)
    assert score.cells == FASTABX[dim, speakers][1]


def alignment(id: str, *phones: tuple[str, float, float]) -> Alignment:
    intervals = tuple(Interval(*phone) for phone in phones)
    return Alignment(id, 1.0, (Word("w", intervals[0].start, intervals[-1].end, intervals),))


def test_tokens_have_a_phone_on_both_sides() -> None:
    one = alignment(
        "a",
        ("L", 0.2925, 0.3725),
        ("IH1", 0.3725, 0.4325),
        ("NG", 0.4325, 0.4725),
        ("K", 0.5, 0.55),
        ("AH0", 0.55, 0.6),
    )
    # The item of the ZeroSpeech file "6295-244435-0009 0.2925 0.4725 IH L NG 6295".
    assert [*item_lines(phone_tokens(one, "s", "triphone"))] == [
        "#file onset offset #phone prev-phone next-phone speaker",
        "a 0.2925 0.4725 IH L NG s",
    ]
    (token,) = phone_tokens(one, "s", "phoneme")
    assert (token.onset, token.offset) == (0.3725, 0.4325)
    # Frames of 20 ms whose middles lie inside: .39, .41, .43.
    assert token.frames(50.0) == (19, 22)
    # A middle on the edge counts on either side: .29 x 50 - .5 is 14, though not in floats.
    assert PhoneToken("a", 0.29, 0.31, "A", "B", "C", "s").frames(50.0) == (14, 16)


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[list[Recording], dict[str, Alignment]]:
    recordings, alignments = [], {}
    for number in range(6):
        id = f"{'xy'[number % 2]}/{number}"
        save_audio(tmp_path / f"{number}.wav", noise(16_000, number))
        recordings.append(Recording(id, tmp_path / f"{number}.wav", 16_000, 16_000, speaker="xy"[number % 2]))
        middle = "AE" if number < 4 else "IH"
        alignments[id] = alignment(id, ("B", 0.1, 0.2), (middle, 0.2, 0.36), ("T", 0.36, 0.5))
    return recordings, alignments


def test_a_corpus_and_its_files(corpus, tokenizer_folder: Path, tmp_path: Path) -> None:
    recordings, alignments = corpus
    tokenizer = Tokenizer.load(tokenizer_folder, device="cpu")
    result = evaluate_abx(recordings, alignments, tokenizer, export=tmp_path / "out")
    assert AbxResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert (result.tokens, result.left_out_tokens, result.kind) == (6, 0, "triphone")
    found = {(row.representation, row.speakers): row for row in result.rows}
    assert [*found] == [(name, one) for name in ("features", "units") for one in SPEAKERS]
    # AE twice and IH once by either speaker. Within: x, a of AE and b of IH; across: both phones, x by the other one.
    assert {(row.cells, row.triplets) for key, row in found.items() if key[1] == "within"} == {(2, 4)}
    assert {(row.cells, row.triplets) for key, row in found.items() if key[1] == "across"} == {(4, 2 * 4 + 2 * 2)}

    lines = (tmp_path / "out" / "triphone.item").read_text().splitlines()
    assert lines[1] == "x/0 0.1000 0.5000 AE B T x" and len(lines) == 7
    units = {}
    for line in (tmp_path / "out" / "units.jsonl").read_text().splitlines():
        units[json.loads(line)["file"]] = json.loads(line)["units"]
    for recording in recordings:
        feats = torch.load(tmp_path / "out" / "features" / f"{recording.id}.pt", weights_only=True)
        assert torch.equal(feats, torch.from_numpy(tokenizer.features(recording.load())))
        assert len(units[recording.id]) == len(feats)
    # The files alone give the same error rates.
    tokens = [PhoneToken(f, float(on), float(off), *rest) for f, on, off, *rest in (one.split() for one in lines[1:])]
    spans = [np.array(units[one.file])[slice(*one.frames(50.0)), None] for one in tokens]
    for speakers in SPEAKERS:
        assert abx_error_rate(tokens, spans, speakers).error_rate == found["units", speakers].error_rate
    with pytest.raises(InputError, match="exists: choose another name for --export"):
        evaluate_abx(recordings, alignments, tokenizer, export=tmp_path / "out")

    segmentations = {one.id: tokenizer.encode(one.load()) for one in recordings}
    with open_writer(tmp_path / "units.parquet", "parquet") as writer:
        for id, segmentation in segmentations.items():
            writer.write(id, "", segmentation)
    from_units = evaluate_abx(recordings, alignments, units=tmp_path / "units.parquet")
    assert from_units.rows == result.rows[2:] and from_units.model is None


def test_what_cannot_be_compared_is_refused(corpus, tokenizer_folder: Path, tmp_path: Path) -> None:
    recordings, alignments = corpus
    nameless = [Recording(one.id, one.path, 16_000, 16_000) for one in recordings]
    with pytest.raises(InputError, match="6 recordings without a speaker, such as 'x/0'"):
        evaluate_abx(nameless, alignments, tokenizer_folder)
    with pytest.raises(InputError, match="no two phones in the same context by one speaker"):
        evaluate_abx(recordings[:1], alignments, tokenizer_folder, device="cpu")
    with open_writer(tmp_path / "units.parquet", "parquet") as writer:
        writer.write("x/0", "", Segmentation.from_boundaries([0, 50], unit=[1]))
    with pytest.raises(InputError, match="5 recordings missing"):
        evaluate_abx(recordings, alignments, units=tmp_path / "units.parquet")
