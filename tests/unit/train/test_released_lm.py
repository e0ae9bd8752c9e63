"""Language models of others: the same scores and continuations as by their own program, whatever their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.released_lms import TWIST, fairseq_names, random_opt, write_twist
from syllablelm.core.errors import FormatError, InputError
from syllablelm.core.segmentation import Segmentation
from syllablelm.formats import open_writer
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.train.released_lm import convert_lm
from syllablelm.vocoder.vocoder_lm import VocoderLM

UNITS = 20
EMPTY = Segmentation(*(np.zeros(0, dtype=np.int32) for _ in range(3)), 0, 640, 16_000)
ROWS = [[3, 1, 4, 15, 9], [2, 6], [5, 3, 5, 8, 19, 7, 0]]


def segmentation(units: list[int], frames: int = 2, hop: int = 320) -> Segmentation:
    return Segmentation.from_boundaries(np.arange(len(units) + 1) * frames, unit=units, hop=hop)


def log_probs(model: Any, tokens: list[int], kept: list[int]) -> torch.Tensor:
    """Log-probability of each token after the first among the tokens that are kept, by transformers."""
    with torch.inference_mode():
        logits = model(torch.tensor([tokens])).logits[0, :-1, kept]
    wanted = torch.tensor([kept.index(token) for token in tokens[1:]])
    return logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]


@pytest.mark.parametrize("size", TWIST)
def test_twist_scores_and_continues_as_its_own_code_does(size, tmp_path: Path):
    offset, vocab = 3, UNITS + 5
    source = write_twist(tmp_path / "twist", size, vocab=vocab, offset=offset)
    settings = [f"num_units={UNITS}", "hop=640", "rate=19.5"]
    result = convert_lm(tmp_path / "twist", tmp_path / "lm", settings)
    assert (result.units, result.first, result.bos, result.unused) == (UNITS, offset, -1, 5)
    lm = SpeechLM.load(tmp_path / "lm", device="cpu")
    assert (lm.info.has_bos, lm.info.hop, set(lm.durations.tolist())) == (False, 640, {1})
    segs = [segmentation(row, hop=640) for row in ROWS]
    kept = list(range(offset, offset + UNITS))
    for seg, row, score in zip(segs, ROWS, lm.score(segs), strict=True):
        expected = log_probs(source, [offset + unit for unit in row], kept)
        assert score == pytest.approx(float(expected.mean()), abs=1e-5)
        assert len(lm.log_probs([seg])[0]) == len(row) - 1
    outside = [token for token in range(vocab) if token not in kept]
    for row, more in zip(ROWS, lm.generate(segs, seconds=0.4, temperature=0.0), strict=True):
        tokens = torch.tensor([row]) + offset
        whole = source.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=10,
            min_new_tokens=10,
            suppress_tokens=outside,
            eos_token_id=None,
        )
        assert np.asarray(more.unit).tolist() == (whole[0, len(row) :] - offset).tolist()
    with pytest.raises(InputError, match="segmentation 0: one unit; a model without BOS"):
        lm.score([segmentation([4], hop=640)])
    with pytest.raises(InputError, match="segmentation 0: no units; a model without BOS continues"):
        lm.generate([EMPTY])


def test_long_sequences_without_bos_score_every_unit_but_the_first(tmp_path: Path):
    write_twist(tmp_path / "twist", "1.3B", vocab=UNITS, offset=0)
    convert_lm(tmp_path / "twist", tmp_path / "lm", [f"num_units={UNITS}", "rate=25", "context=8"])
    lm = SpeechLM.load(tmp_path / "lm", device="cpu")
    units = np.random.default_rng(0).permutation(np.repeat(np.arange(UNITS), 2)).tolist()
    units = [unit for unit, before in zip(units, [-1, *units[:-1]], strict=True) if unit != before]
    found = lm.log_probs([segmentation(units)])[0]
    assert lm.context == 8 and len(found) == len(units) - 1
    # Windows of at most 8 units; after the first one, each begins 4 before the first unit that it scores.
    expected = log_probs(lm.model, units[:8], list(range(UNITS))).tolist()
    for new in range(8, len(units), 4):
        window = units[new - 4 : min(len(units), new + 4)]
        expected += log_probs(lm.model, window, list(range(UNITS))).tolist()[3:]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    likelihood = lm.evaluate(_store(lm, [units, [1, 2]]))
    assert likelihood.tokens == len(units)


def _store(lm: SpeechLM, rows: list[list[int]]) -> Any:
    from syllablelm.lm.store import TokenStore

    return TokenStore.from_segmentations([(str(i), segmentation(row)) for i, row in enumerate(rows)], lm.info)


# (table in the file, settings, row of unit 0, row of BOS)
LAYOUTS = {
    "transformers": (lambda model: dict(model.state_dict()), [], 0, UNITS),
    "in a table, compiled and wrapped": (
        lambda model: {"step": 3, "model_lm": {f"module._orig_mod.{n}": t for n, t in model.state_dict().items()}},
        ["first=1", "bos=0"],
        1,
        0,
    ),
    "fairseq": (lambda model: {"args": None, "model": fairseq_names(model)}, ["first=4", "bos=0"], 4, 0),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_weights_alone(name, tmp_path: Path):
    table, settings, first, bos = LAYOUTS[name]
    source = random_opt(UNITS + 4)
    torch.save(table(source), tmp_path / "SyllableLM_base_625Hz.pt")
    with open_writer(tmp_path / "units.jsonl") as writer:
        for number, row in enumerate(ROWS):
            writer.write(str(number), "", segmentation(row, frames=4 + number))
    common = [f"num_units={UNITS}", f"units={tmp_path / 'units.jsonl'}", "context=12", *settings]
    result = convert_lm(tmp_path / "SyllableLM_base_625Hz.pt", tmp_path / "lm", common)
    assert (result.source_format, result.first, result.bos, result.unused) == ("weights", first, bos, 3)
    lm = SpeechLM.load(tmp_path / "lm", device="cpu")
    assert (lm.context, lm.durations[15], lm.durations[2], lm.durations[8]) == (12, 4, 5, 6)
    kept = [*range(first, first + UNITS), bos]
    expected = [log_probs(source, [bos, *(first + unit for unit in row)], kept) for row in ROWS]
    found = lm.log_probs([segmentation(row) for row in ROWS])
    for own, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, theirs.numpy(), atol=1e-5)
    assert result.nats_per_unit == pytest.approx(-float(torch.cat(expected).mean()), abs=1e-5)
    assert result.unigram is not None and 0 < result.unigram < np.log(UNITS)


def test_a_vocoder_lm(tmp_path: Path):
    # BOS, acoustic units, then syllables.
    acoustic = 6
    source = random_opt(1 + acoustic + UNITS)
    torch.save({"model": dict(source.state_dict())}, tmp_path / "vocoder_lm.pt")
    settings = [f"num_units={UNITS}", "first=7", "bos=0", f"acoustic_units={acoustic}", "acoustic_hop=640",
                "acoustic_first=1", "rate=12.5"]  # fmt: skip
    convert_lm(tmp_path / "vocoder_lm.pt", tmp_path / "lm", settings)
    vocoder = VocoderLM.load(tmp_path / "lm", device="cpu")
    assert (vocoder.stream.syllables, vocoder.stream.acoustic) == (UNITS, acoustic)
    assert (vocoder.stream.hop, vocoder.stream.syllable_hop) == (640, 320)
    assert set(vocoder.lm.durations[UNITS:].tolist()) == {2}
    kept = [*range(7, 7 + UNITS), *range(1, 7), 0]
    own = [2, UNITS + 3, UNITS, 7, UNITS + 5]
    with torch.inference_mode():
        logits = vocoder.lm.model(torch.tensor([[vocoder.lm.info.bos, *own]])).logits
        theirs = source(torch.tensor([[0, *(kept[token] for token in own)]])).logits[..., kept]
    torch.testing.assert_close(logits, theirs, atol=1e-5, rtol=1e-5)
    drawn = vocoder.decode(segmentation([3, 1, 4], frames=10))
    assert drawn.num_frames == 15 and drawn.unit is not None and int(drawn.unit.max()) < acoustic
    with pytest.raises(InputError, match="a vocoder LM begins with BOS"):
        convert_lm(tmp_path / "vocoder_lm.pt", tmp_path / "x", [*settings, "bos=-1"])


def test_a_vocoder_lm_of_ella_v(tmp_path: Path):
    source = random_opt(UNITS + 6 + 4)
    torch.save(dict(source.state_dict()), tmp_path / "vocoder_lm.pt")
    end = UNITS + 6
    settings = [f"num_units={UNITS}", "acoustic_units=6", "rate=12.5", 'interleaving="ella-v"',
                f"ends=[{end}, {end + 1}, {end + 2}]", f"bos={end + 3}"]  # fmt: skip
    convert_lm(tmp_path / "vocoder_lm.pt", tmp_path / "lm", settings)
    vocoder = VocoderLM.load(tmp_path / "lm", device="cpu")
    embedded = vocoder.lm.model.get_input_embeddings().weight
    theirs = source.get_input_embeddings().weight
    stream = vocoder.stream
    for own, row in ((stream.prefix_end, end), (stream.first_acoustic, UNITS), (stream.syllable_end, end + 1)):
        assert torch.equal(embedded[own], theirs[row])
    assert vocoder.decode(segmentation([3, 1, 4], frames=10)).num_frames == 30


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "either tokenizer=NAME, or num_units=N"),
        (["num_units=20"], "either units=FILE, or rate=N"),
        (["num_units=20", "rate=6.25", "first=9"], "24 tokens, but units from row 9 and BOS in row 29 need 30 "),
        (["num_units=20", "rate=6.25", "bos=7"], "24 tokens, but units from row 0 and BOS in row 7 need 20 different"),
        (["num_units=20", "rate=6.25", "heads=3"], "heads 3: must divide the model's 16"),
        (["num_units=20", "rate=6.25", "ends=[1]"], "ends: interleaving 'time' has no such rows"),
        (["num_unit=20", "rate=6.25"], "unknown key 'num_unit'; did you mean 'num_units'"),
    ],
)
def test_layouts_that_do_not_fit(settings, message, tmp_path: Path):
    torch.save(dict(random_opt(24).state_dict()), tmp_path / "a.pt")
    with pytest.raises((InputError, FormatError), match=message):
        convert_lm(tmp_path / "a.pt", tmp_path / "lm", settings)
    assert not (tmp_path / "lm").exists()


def test_files_that_are_no_language_model(tmp_path: Path):
    settings = ["num_units=20", "rate=6.25"]
    weights = random_opt(24).state_dict()
    for name, table, message in (
        ("none.pt", {"model": {"weight": torch.ones(2)}}, "no embed_tokens.weight among its weights"),
        ("bare.pt", {"embed_tokens.weight": torch.ones(24, 16)}, "not the weights of an OPT"),
        ("half.pt", {k: v for k, v in weights.items() if "layers.1.fc2" not in k}, "no model.decoder.layers.1.fc2"),
    ):
        torch.save(table, tmp_path / name)
        with pytest.raises(FormatError, match=message):
            convert_lm(tmp_path / name, tmp_path / "lm", settings)


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"model": dict(random_opt(24).state_dict()), "extra": _Code()}, tmp_path / "a.pt")
    with pytest.raises(FormatError, match="holds code"):
        convert_lm(tmp_path / "a.pt", tmp_path / "lm", ["num_units=20", "rate=6.25"])
    assert "run" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "dim", "inner"), [(12, 768, 3072), (24, 1024, 4096)])
def test_the_papers_sizes(layers, dim, inner, tmp_path: Path):
    source = random_opt(8193, layers=layers, dim=dim, inner=inner, positions=1024)
    torch.save({"model": dict(source.state_dict())}, tmp_path / "lm.pt")
    convert_lm(tmp_path / "lm.pt", tmp_path / "lm", ["num_units=8192", "rate=6.25", "context=158"])
    config = SpeechLM.load(tmp_path / "lm", device="cpu").model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (layers, dim, dim // 64)
    assert (config.ffn_dim, config.max_position_embeddings) == (inner, 1024)
