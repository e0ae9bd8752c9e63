"""Scores of texts: an n-gram from files, and a causal model against its own probabilities."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch

from helpers.planted_code import plant_code
from syllablelm.core.errors import FormatError, InputError
from syllablelm.evaluate.speech.error_rates import text_normalizer
from syllablelm.evaluate.speech.text_lm import CausalTextLM, TextScore, read_sentences, train_ngram

LINES = "1-1-0 THE CAT SAT\n1-1-1 THE DOG SAT\n1-1-2 THE CAT, RAN\n"


def test_perplexity():
    assert TextScore(4 * math.log(3), 4).perplexity == pytest.approx(3)
    assert math.isnan(TextScore(0.0, 0).perplexity)


def test_ids_are_read_from_transcripts_only(tmp_path):
    for name, first in (("a.trans.txt", ("1-1-0", "the cat sat")), ("a.txt", (None, "1 1 0 the cat sat"))):
        (tmp_path / name).write_text(LINES)
        assert next(read_sentences(tmp_path / name)) == first
    with pytest.raises(FormatError, match="no such text"):
        list(read_sentences(tmp_path / "none.txt"))


def test_what_is_scored_is_not_learned(tmp_path):
    file = tmp_path / "a.trans.txt"
    file.write_text(LINES)
    lm = train_ngram([file], skip_ids={"1-1-1"}, skip_texts={"the cat ran"})
    assert (lm.info.sentences_left_out, lm.info.trained_on_words) == (2, 3)
    with pytest.raises(InputError, match=r"a\.trans\.txt: .*at least one"):
        train_ngram([file], skip_ids={"1-1-0", "1-1-1", "1-1-2"})


def test_ngram_scores(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("the cat sat\nthe cat ran\n")
    learned, turned, empty = train_ngram([file]).score(["the cat sat", "sat cat the", ""])
    assert learned.perplexity < turned.perplexity
    assert (learned.tokens, learned.unknown, empty.tokens) == (3, 1, 0)


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2")
    words = {word: number for number, word in enumerate(["<end>", "<unk>", "the", "cat", "sat"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=5, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_causal_scores_are_its_probabilities_alone_and_in_a_batch(causal):
    from transformers import GPT2LMHeadModel

    lm = CausalTextLM(str(causal), device="cpu")
    texts = ["the cat sat", "", "cat"]
    together = lm.score(texts)
    assert [score.tokens for score in together] == [3, 0, 1]
    with torch.inference_mode():
        logits = GPT2LMHeadModel.from_pretrained(causal).eval()(input_ids=torch.tensor([[0, 2, 3, 4]])).logits
    expected = -logits[0, :3].log_softmax(-1)[range(3), [2, 3, 4]].sum()
    assert together[0].nats == pytest.approx(float(expected), abs=1e-5)
    assert np.allclose([lm.score([text])[0].nats for text in texts], [score.nats for score in together], atol=1e-5)


def test_a_text_may_begin_as_its_tokenizer_begins_it(causal, tmp_path):
    """GPT-2's kin add nothing: the first token is given, as in slamkit's score (mean of -log p of those after it)."""
    from tokenizers.processors import TemplateProcessing
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

    model = GPT2LMHeadModel.from_pretrained(causal).eval()

    def slow(ids: list[int]) -> float:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        return float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]))) if len(ids) > 1 else math.nan

    texts = ["the cat sat", "", "cat", "cat sat"]
    found = CausalTextLM(str(causal), own_start=True, device="cpu").score(texts)
    assert [score.tokens for score in found] == [2, 0, 0, 1]
    assert [found[0].nats / 2, found[3].nats] == pytest.approx([slow([2, 3, 4]), slow([3, 4])], abs=1e-5)
    folder = shutil.copytree(causal, tmp_path / "bos")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(causal)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<end> $A", special_tokens=[("<end>", 0)])
    tokenizer.save_pretrained(folder)
    begun = CausalTextLM(str(folder), own_start=True, device="cpu").score(texts)
    usual = CausalTextLM(str(causal), device="cpu").score(texts)
    assert [score.tokens for score in begun] == [score.tokens for score in usual] == [3, 0, 1, 2]
    assert [score.nats for score in begun] == pytest.approx([score.nats for score in usual], abs=1e-5)


def test_an_ngram_of_english_texts(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("I'm ninety nine\nI'm ninety nine\n")
    english = text_normalizer("english")
    lm = train_ngram([file], normalize=english)
    assert lm.score([english("I am 99.")])[0].unknown == 0
    assert lm.score(["i'm ninety nine"])[0].unknown == 3
    assert [text for _, text in read_sentences(file, english)] == ["i am 99"] * 2


def test_causal_refuses(causal, tmp_path):
    with pytest.raises(InputError, match="does not fit"):
        CausalTextLM(str(causal), device="cpu").score(["the " * 8])
    with pytest.raises(FormatError, match="not a causal"):
        CausalTextLM(str(tmp_path), device="cpu")


def test_no_code_of_a_text_model_is_run(causal, tmp_path, monkeypatch):
    folder = shutil.copytree(causal, tmp_path / "lm")
    expected = CausalTextLM(str(folder), device="cpu").score(["the cat sat"])
    plant_code(folder, monkeypatch)
    assert CausalTextLM(str(folder), device="cpu").score(["the cat sat"]) == expected


def test_a_quantized_text_model_is_refused(causal, tmp_path):
    folder = shutil.copytree(causal, tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(FormatError, match=r"config\.json: quantized weights are not supported"):
        CausalTextLM(str(folder), device="cpu")
