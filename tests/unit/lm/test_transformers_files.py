"""Language-model folders in the hands of transformers and vLLM: tokens, words, and what is never generated."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.shell_blocks import blocks
from syllablelm.core.artifact import current_digest, open_artifact
from syllablelm.core.models import BUNDLED
from syllablelm.core.segmentation import Segmentation
from syllablelm.lm.backbone import LMShape, resize_vocabulary
from syllablelm.lm.speech_lm import SpeechLM
from syllablelm.lm.store import TokenInfo
from syllablelm.lm.transformers_files import token_words
from syllablelm.vocoder.interleave import StreamInfo

UNITS = 300
FAMILIES = ("opt", "llama", "mistral", "qwen2", "gpt_neox")
DOCUMENT = Path(__file__).resolve().parents[3] / "docs/speak.md"


def network(family: str) -> Any:
    """A random model of a family, one of text among them, which is given the vocabulary of units."""
    torch.manual_seed(0)
    if family in ("opt", "llama"):
        return LMShape(2, 64, 1, 64, 64, 0.0, family=family).build(UNITS)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    more = {"vocab_size": 999, "max_position_embeddings": 64, "num_key_value_heads": 2}
    config = CONFIG_MAPPING[family](**sizes, **more)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    resize_vocabulary(model, UNITS)
    return model


def likes_bos(model: Any, info: TokenInfo) -> Any:
    """The model with output weights that make BOS the likeliest token everywhere, but for its being suppressed."""
    output = model.get_output_embeddings()
    bias = torch.zeros(info.num_tokens + 1)
    bias[info.bos] = 1e4
    output.bias = torch.nn.Parameter(bias)
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechLM, Path]:
    lm = SpeechLM(network(request.param), TokenInfo(UNITS), np.full(UNITS, 10, dtype=np.int32))
    folder = tmp_path_factory.mktemp(request.param) / "lm"
    lm.save(folder)
    return lm, folder


def test_the_tokenizer_gives_our_tokens(saved: tuple[SpeechLM, Path]) -> None:
    lm, folder = saved
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == tokenizer.vocab_size == lm.model.config.vocab_size
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    config = lm.model.config
    assert special == (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (UNITS, None, None)
    # As long as the model reads them.
    assert tokenizer.model_max_length == 64
    for units in (list(range(UNITS)), [12, 0, 0, 299], []):
        text = "".join(f"<Un{unit}>" for unit in units)
        assert tokenizer(text).input_ids == [lm.info.bos, *units]
        assert tokenizer(text, add_special_tokens=False).input_ids == units
        assert tokenizer.decode([lm.info.bos, *units], skip_special_tokens=True) == text
        assert tokenizer.decode(tokenizer(text).input_ids) == f"<S>{text}"
    # Spaces between words do not count; words that the model does not know are not left out silently.
    assert tokenizer("<Un1> <Un2>\n").input_ids == [UNITS, 1, 2]
    if type(tokenizer).__name__ == "Qwen2Tokenizer":
        pytest.skip("transformers opens its own class, which leaves other words out")
    for text in (f"<Un{UNITS}>", "hello", "<Un1>x", "<Un01>"):
        with pytest.raises(Exception, match="Missing \\[UNK\\] token"):
            tokenizer(text)


def test_generation_by_transformers_equals_ours(saved: tuple[SpeechLM, Path]) -> None:
    lm, folder = saved
    prompt = Segmentation.from_boundaries([0, 5, 9, 20], unit=[7, 250, 31])
    inputs = AutoTokenizer.from_pretrained(folder)("<Un7><Un250><Un31>", return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    drawn = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0, 4:]
    more = lm.generate(prompt, units=20, temperature=0.0)
    assert drawn.tolist() == more.unit.tolist()
    # Without a prompt it begins with BOS.
    assert model.generate(max_new_tokens=2, do_sample=False)[0, 0] == lm.info.bos


def test_bos_is_never_generated(tmp_path: Path) -> None:
    info = TokenInfo(UNITS)
    lm = SpeechLM(network("llama"), info, np.full(UNITS, 10, dtype=np.int32))
    lm.save(tmp_path / "lm")
    model: Any = likes_bos(AutoModelForCausalLM.from_pretrained(tmp_path / "lm"), info)
    inputs = AutoTokenizer.from_pretrained(tmp_path / "lm")("<Un1>", return_tensors="pt")
    with torch.inference_mode():
        assert model(**inputs).logits[0, -1].argmax() == info.bos
    for options in ({"do_sample": False}, {"do_sample": True, "temperature": 0.8}, {"num_beams": 3}):
        assert info.bos not in model.generate(**inputs, max_new_tokens=12, **options)[0, 2:]
    # A folder without the settings generates it.
    model.generation_config.suppress_tokens = None
    assert info.bos in model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, 2:]


def test_a_model_without_bos_has_none_in_its_words(tmp_path: Path) -> None:
    model = network("llama")
    resize_vocabulary(model, UNITS, has_bos=False)
    SpeechLM(model, TokenInfo(UNITS, has_bos=False), np.full(UNITS, 10, dtype=np.int32)).save(tmp_path / "lm")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lm")
    assert (len(tokenizer), tokenizer.bos_token_id) == (UNITS, None)
    assert tokenizer("<Un3><Un5>").input_ids == [3, 5] and tokenizer.decode([3, 5]) == "<Un3><Un5>"
    drawn = AutoModelForCausalLM.from_pretrained(tmp_path / "lm").generate(torch.tensor([[3]]), max_new_tokens=3)
    assert drawn.shape == (1, 4)


@pytest.mark.parametrize("interleaving", ["time", "ella-v"])
def test_words_of_an_interleaved_stream(interleaving: Any, tmp_path: Path) -> None:
    stream = StreamInfo(syllables=4, acoustic=3, interleaving=interleaving)
    words = token_words(stream.tokens)
    assert len(words) == len(set(words)) == stream.tokens.num_tokens + 1
    assert words[:4] == ["<Un0>", "<Un1>", "<Un2>", "<Un3>"] and words[-1] == "<S>"
    assert words[stream.first_acoustic : stream.syllable_end] == ["<Ac0>", "<Ac1>", "<Ac2>"]
    if stream.has_ends:
        assert (words[stream.prefix_end], words[stream.syllable_end], words[-2]) == ("<P>", "<E>", "<Z>")
    model = LMShape(1, 16, 2, 32, 32, 0.0).build(stream.tokens.num_tokens)
    SpeechLM(model, stream.tokens, np.ones(stream.tokens.num_tokens, dtype=np.int32)).save(tmp_path / "lm")
    settings = json.loads((tmp_path / "lm/generation_config.json").read_text(encoding="utf-8"))
    # Syllables and the end of the prefix are given, never learned; the model draws acoustic units and ends.
    assert settings["suppress_tokens"] == [*range(stream.first_acoustic), stream.tokens.bos]


def test_the_bundled_model(capfd: pytest.CaptureFixture[str]) -> None:
    folder = BUNDLED / "small/lm"
    lm, tokenizer = SpeechLM.load("small", device="cpu"), AutoTokenizer.from_pretrained(folder)
    text = "".join(f"<Un{unit}>" for unit in range(lm.info.num_tokens))
    assert tokenizer(text).input_ids == [lm.info.bos, *range(lm.info.num_tokens)]
    assert token_words(replace(lm.info)) == tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert lm.info.bos not in model.generate(**tokenizer("<Un5>", return_tensors="pt"), max_new_tokens=40)[0, 2:]
    # Its record is that of its files.
    capfd.readouterr()
    artifact = open_artifact(folder, "lm")
    assert current_digest(artifact) == artifact.digest and capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed")
def test_the_recipe_for_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/speak.md as it stands, greedy, draws what our own decoding draws."""
    lm = SpeechLM(network("opt"), TokenInfo(UNITS), np.full(UNITS, 10, dtype=np.int32))
    lm.save(tmp_path / "my_lm")
    monkeypatch.chdir(tmp_path)
    (recipe,) = (block for block in blocks(DOCUMENT.read_text(encoding="utf-8"), "python") if "from vllm" in block)
    seg = Segmentation.from_boundaries([0, 5, 9, 20], unit=[7, 250, 31])
    names: dict[str, Any] = {"seg": seg, "lm": lm}
    exec(recipe.replace("temperature=0.8", "temperature=0.0"), names)
    assert list(names["units"]) == lm.generate(seg, units=50, temperature=0.0).unit.tolist()
