"""Training of language models: packed equals alone, runs resume, the folder opens with transformers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.two_processes import run_two
from syllablelm.core.artifact import Artifact, digest_path, new_artifact, open_artifact
from syllablelm.core.config import read_toml
from syllablelm.core.errors import FormatError, InputError
from syllablelm.lm.backbone import load_decoder
from syllablelm.lm.decode import CachedDecoder
from syllablelm.lm.fused import make_stepper
from syllablelm.lm.speech_lm import SpeechLM, count_parameters, typical_durations
from syllablelm.lm.store import TokenInfo, TokenStore
from syllablelm.train.lm_stage import RUN_FILE, LanguageModelTask, LMConfig, LMShape, start_from_text, train_lm
from syllablelm.train.loop import LoopConfig
from syllablelm.train.runlog import read_log

UNITS = 20
SHAPE = LMShape(layers=2, dim=32, heads=4, feed_forward=64, positions=64, dropout=0.0)
CONFIG = LMConfig(LoopConfig(steps=60, lr=5e-3, log_every=5), SHAPE, 5.0, row_tokens=64, batch_tokens=512)


def markov(count: int, seed: int) -> TokenStore:
    table = np.random.default_rng(7).dirichlet(np.full(UNITS, 0.1), size=UNITS)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        row = [int(rng.integers(UNITS))]
        while len(row) < 40:
            row.append(int(rng.choice(UNITS, p=table[row[-1]])))
        rows.append(np.array(row, dtype=np.int32))
    return TokenStore.from_arrays(rows, [np.full(40, 8, dtype=np.int32) for _ in rows], TokenInfo(UNITS))


def saved(store: TokenStore, path: Path) -> Artifact:
    with new_artifact(path, "tokens", config={}, seed=0, parents={}, metrics={}) as folder:
        store.save(folder)
    return open_artifact(path, "tokens")


def test_training_beats_unigrams_resumes_and_opens_with_transformers(tmp_path):
    train, valid = saved(markov(120, 0), tmp_path / "train"), saved(markov(30, 1), tmp_path / "valid")
    artifact = train_lm(CONFIG, train, tmp_path / "lm", valid=valid, device="cpu")
    scores = artifact.metrics["valid"]
    assert scores["model"]["nats_per_token"] < scores["unigram"]["nats_per_token"] - 0.3
    assert scores["model"]["tokens"] == scores["bigram"]["tokens"] == 30 * 40

    from transformers.models.auto.modeling_auto import AutoModelForCausalLM

    speech_lm = SpeechLM.load(tmp_path / "lm", device="cpu")
    # 5 s of units of .16 s; the model has 64 positions.
    assert speech_lm.context == speech_lm.info.trained_tokens == 31
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    tokens = torch.tensor([[UNITS, 3, 1, 4]])
    torch.testing.assert_close(opened(tokens).logits, speech_lm.model(tokens).logits)

    record = json.loads((tmp_path / "lm" / RUN_FILE).read_text())
    assert record["flops"] == 6 * record["params"] * record["tokens"]
    task = LanguageModelTask(SHAPE.build(UNITS), TokenStore.open(train.path), CONFIG, 0)
    assert record["tokens"] == sum(task.batch(n)["num_tokens"] for n in range(60)) < 60 * 512
    assert record["tokens_per_second"] == pytest.approx(record["seconds_per_second"] / 0.16)
    assert 0 < record["mfu"] < 1 and record["peak_source"] == "measured"
    assert record["mfu"] == pytest.approx(6 * record["params"] * record["tokens_per_second"] / record["peak_flops"])
    log = read_log(tmp_path / "lm")
    assert [line["step"] for line in log] == list(range(5, 61, 5))
    assert log[-1]["nats_per_second"] == pytest.approx(log[-1]["nats_per_token"] / 0.16, rel=1e-3)
    assert log[-1]["mfu"] == pytest.approx(record["mfu"], abs=1e-6)


def test_utilisation_is_a_share_of_the_recipes_peak(tmp_path):
    train = saved(markov(30, 0), tmp_path / "train")
    config = replace(CONFIG, loop=LoopConfig(steps=4, log_every=2), peak_tflops=0.5)
    train_lm(config, train, tmp_path / "lm", device="cpu")
    record = json.loads((tmp_path / "lm" / RUN_FILE).read_text())
    assert (record["peak_flops"], record["peak_source"]) == (5e11, "recipe")
    assert record["mfu"] == pytest.approx(6 * record["params"] * record["tokens_per_second"] / 5e11)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("crop_seconds", value) for value in (0.0, -3.0, float("nan"), float("inf"))),
        ("row_tokens", 1),
        ("unique_tokens", -1),
        ("batch_tokens", 63),
        ("peak_tflops", -1.0),
        ("peak_tflops", float("nan")),
        *((f"shape.{key}", 0) for key in ("layers", "dim", "heads", "feed_forward", "positions")),
        *(("shape.dropout", value) for value in (-0.1, 1.0, 2.0, float("nan"))),
    ],
)
def test_impossible_values_are_named(key, value):
    with pytest.raises(InputError, match=rf"^{key.removeprefix('shape.')} {value}"):
        if key.startswith("shape."):
            replace(SHAPE, **{key.removeprefix("shape."): value})
        else:
            replace(CONFIG, **{key: value})


def test_crops_of_one_token_are_refused(tmp_path):
    train = saved(markov(5, 0), tmp_path / "train")
    with pytest.raises(InputError, match=r"lm\.crop_seconds 0\.2: no crop has more than one token"):
        train_lm(replace(CONFIG, crop_seconds=0.2), train, tmp_path / "lm", device="cpu")


def test_syllables_of_a_stream_count_as_read_though_not_learned():
    store = markov(30, 0)
    stream = TokenStore(store.tokens, store.frames, store.offsets, TokenInfo(UNITS, loss_from=10))
    torch.manual_seed(0)
    batches = [LanguageModelTask(SHAPE.build(UNITS), s, CONFIG, 0, peak_flops=6e3) for s in (store, stream)]
    outputs = [task.module(task.batch(0)) for task in batches]
    assert outputs[0]["tokens"] == outputs[1]["tokens"] == outputs[0]["targets"] > outputs[1]["targets"]
    params = count_parameters(SHAPE.build(UNITS))[0]
    assert float(outputs[1]["peak_seconds"]) == pytest.approx(int(outputs[1]["tokens"]) * params / 1e3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_training_has_the_same_losses(tmp_path, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    train = saved(markov(60, 0), tmp_path / "train")
    config = replace(CONFIG, loop=LoopConfig(steps=8, lr=5e-3, log_every=2))
    train_lm(config, train, tmp_path / "eager", device="cpu")
    graphs = []
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, **options: (graphs.append(function), compiled(function, **options))[1]
    )
    made = train_lm(replace(config, compile=True), train, tmp_path / "compiled", device="cpu")
    assert [function.__name__ for function in graphs] == ["sin", "forward"]
    losses = [[line["loss"] for line in read_log(tmp_path / name)] for name in ("eager", "compiled")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4) and losses[0][-1] < losses[0][0] - 0.05
    # The weights have their usual names.
    load_decoder(made.path)


def test_no_compiler_is_said_in_one_line(tmp_path, monkeypatch):
    def broken(function, **options):
        raise RuntimeError("Failed to find C compiler.\nMuch more.")

    monkeypatch.setattr(torch, "compile", broken)
    train = saved(markov(5, 0), tmp_path / "train")
    with pytest.raises(InputError, match=r"lm\.compile: torch cannot compile here .*compiler\.\); install") as caught:
        train_lm(replace(CONFIG, compile=True), train, tmp_path / "lm", device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "lm").exists()


class _Stopped(Exception):
    pass


def test_a_stopped_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    train = saved(markov(30, 0), tmp_path / "train")
    # Dropout on: its draws must resume too.
    shape = LMShape(1, 16, 2, 32, 64, dropout=0.1)
    loop = LoopConfig(steps=9, lr=5e-3, checkpoint_every=2, log_every=3)
    config = LMConfig(loop, shape, 5.0, row_tokens=64, batch_tokens=128)
    whole = train_lm(config, train, tmp_path / "whole", device="cpu")
    batch = LanguageModelTask.batch

    def fails(self, number):
        if number == 6:
            raise _Stopped
        return batch(self, number)

    monkeypatch.setattr(LanguageModelTask, "batch", fails)
    with pytest.raises(_Stopped):
        train_lm(config, train, tmp_path / "resumed", device="cpu")
    assert (tmp_path / ".resumed.work" / "state.pt").exists() and not (tmp_path / "resumed").exists()
    monkeypatch.undo()
    resumed = train_lm(config, train, tmp_path / "resumed", device="cpu")
    losses = [[(line["step"], line["loss"]) for line in read_log(made.path)] for made in (whole, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    assert resumed.digest == whole.digest
    for one, other in zip(*(load_decoder(made.path).parameters() for made in (whole, resumed)), strict=True):
        assert torch.equal(one, other)


TWO = """
import sys
from pathlib import Path
from syllablelm.core.artifact import open_artifact
from syllablelm.train.lm_stage import LMConfig, LMShape, train_lm
from syllablelm.train.loop import LoopConfig

folder = Path(sys.argv[1])
config = LMConfig(LoopConfig(steps=6, lr=5e-3, log_every=2), LMShape(1, 16, 2, 32, 64, 0.0), 5.0, 64, 128)
train_lm(config, open_artifact(folder / "train"), folder / "two", device="cpu")
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does_from_two_micro_batches(tmp_path):
    train = saved(markov(30, 0), tmp_path / "train")
    script = tmp_path / "two.py"
    script.write_text(TWO, encoding="utf-8")
    done = run_two(script, tmp_path)
    assert done.returncode == 0, done.stderr
    loop = LoopConfig(steps=6, lr=5e-3, log_every=2, accumulate=2)
    train_lm(LMConfig(loop, LMShape(1, 16, 2, 32, 64, 0.0), 5.0, 64, 128), train, tmp_path / "one", device="cpu")
    losses = [[line["loss"] for line in read_log(tmp_path / name)] for name in ("two", "one")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and len(losses[0]) == 3
    records = [json.loads((tmp_path / name / RUN_FILE).read_text()) for name in ("two", "one")]
    assert 0.8 * 6 * 2 * 128 < records[0]["tokens"] == records[1]["tokens"] < 6 * 2 * 128
    assert [record["processes"] for record in records] == [2, 1]


def test_parameters_without_embeddings_by_hand():
    model = SHAPE.build(UNITS)
    block = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32
    embeddings = (UNITS + 1) * 32 + (64 + 2) * 32
    assert count_parameters(model) == (2 * block + 2 * 32, 2 * block + 2 * 32 + embeddings)


def test_base_shape_of_the_paper_has_its_parameters():
    with torch.device("meta"):
        counts = [count_parameters(shape.build(4096))[0] for shape in (LMShape(), LMShape(24, 1024, 16, 4096))]
    assert [round(count / 1e6) for count in counts] == [85, 302]


# As facebook/opt-125m and facebook/opt-350m say in their config.json; the latter's norms follow, and its embeddings are
# half as wide as its layers.
OPT_125M = {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "ffn_dim": 3072,
            "word_embed_proj_dim": 768, "do_layer_norm_before": True}  # fmt: skip
OPT_350M = {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "ffn_dim": 4096,
            "word_embed_proj_dim": 512, "do_layer_norm_before": False}  # fmt: skip
COMMON = {"model_type": "opt", "architectures": ["OPTForCausalLM"], "activation_function": "relu", "vocab_size": 50272,
          "max_position_embeddings": 2048, "_remove_final_layer_norm": False, "bos_token_id": 2, "eos_token_id": 2,
          "pad_token_id": 1, "attention_dropout": 0.0, "layerdrop": 0.0, "dtype": "float16"}  # fmt: skip


def text_opt(folder: Path, settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Write random weights under the published names, in half precision, as the published file has them."""
    dim, inner, width = (settings[key] for key in ("hidden_size", "ffn_dim", "word_embed_proj_dim"))
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (50272, width), "embed_positions.weight": (2050, dim)}
    if settings["do_layer_norm_before"]:
        shapes |= {"final_layer_norm.weight": (dim,), "final_layer_norm.bias": (dim,)}
    if width != dim:
        shapes |= {"project_in.weight": (dim, width), "project_out.weight": (width, dim)}
    for layer in range(settings["num_hidden_layers"]):
        sizes = {f"self_attn.{part}_proj": (dim, dim) for part in ("k", "v", "q", "out")}
        for name, size in {**sizes, "fc1": (inner, dim), "fc2": (dim, inner)}.items():
            shapes |= {f"layers.{layer}.{name}.weight": size, f"layers.{layer}.{name}.bias": size[:1]}
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"layers.{layer}.{name}.{part}": (dim,) for part in ("weight", "bias")}
    generator = torch.Generator().manual_seed(5)
    weights = {}
    for name, size in shapes.items():
        tensor = torch.empty(size).normal_(0.0, 0.02, generator=generator)
        weights[f"model.decoder.{name}"] = (tensor + (name.endswith("norm.weight"))).half()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**COMMON, **settings}), encoding="utf-8")
    torch.save(weights, folder / "pytorch_model.bin")
    return weights


def shape_of(settings: dict[str, Any], **change: Any) -> LMShape:
    keys = ("num_hidden_layers", "hidden_size", "num_attention_heads", "ffn_dim")
    return replace(LMShape(*(settings[key] for key in keys), positions=1024, dropout=0.0), **change)


def check_start(model: Any, weights: dict[str, torch.Tensor], settings: dict[str, Any]) -> None:
    """Layers and positions are the text's, and compute what its own model computes from the same embeddings."""
    own = model.state_dict()
    new = {"model.decoder.embed_tokens.weight", "lm_head.weight"}
    for name, tensor in own.items():
        if name not in new:
            assert torch.equal(tensor, weights[name][: len(tensor)].float()), name
    lost = {name.removeprefix("model.decoder.").split(".")[0] for name in weights.keys() - own.keys()}
    is_projected = settings["hidden_size"] != settings["word_embed_proj_dim"]
    assert lost == ({"project_in", "project_out"} if is_projected else set())
    # The text's decoder, with neither projections nor vocabulary of its own.
    from transformers.models.opt.configuration_opt import OPTConfig
    from transformers.models.opt.modeling_opt import OPTModel

    plain = {**settings, "word_embed_proj_dim": settings["hidden_size"], "max_position_embeddings": 2048}
    text: Any = OPTModel(OPTConfig(**plain, vocab_size=4, pad_token_id=None)).eval()
    left = ("project_in", "project_out", "embed_tokens")
    rest = {k.removeprefix("model."): v.float() for k, v in weights.items() if not any(part in k for part in left)}
    missing, extra = text.load_state_dict(rest, strict=False)
    assert (missing, extra) == (["decoder.embed_tokens.weight"], [])
    tokens = torch.tensor([[UNITS, 3, 1, 4, 1, 5]])
    embedded = model.model.decoder.embed_tokens(tokens)
    with torch.inference_mode():
        expected = text(inputs_embeds=embedded).last_hidden_state @ own["lm_head.weight"].T
        found = model.eval()(tokens).logits
        decoder = CachedDecoder(make_stepper(model), 1, 6)
        stepped = [decoder.prefill([tokens[0, :2].tolist()]), *(decoder.step(tokens[:, at]) for at in range(2, 6))]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat(stepped), found[0, 1:], atol=1e-4, rtol=1e-4)


# The smallest of either kind.
SMALL_TEXT = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "ffn_dim": 64,
              "word_embed_proj_dim": 32, "do_layer_norm_before": True}  # fmt: skip
SMALL_POST_NORM = {**SMALL_TEXT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}


@pytest.mark.parametrize("settings", [SMALL_TEXT, SMALL_POST_NORM], ids=["norm first", "norm last"])
def test_layers_and_positions_of_a_text_opt_are_taken_over(tmp_path, settings):
    weights = text_opt(tmp_path / "text", settings)
    torch.manual_seed(2)
    check_start(start_from_text(shape_of(settings), UNITS, str(tmp_path / "text")), weights, settings)


@pytest.mark.slow
def test_two_layers_of_the_width_of_opt_350m_are_taken_over(tmp_path):
    settings = {**OPT_350M, "num_hidden_layers": 2}
    weights = text_opt(tmp_path / "text", settings)
    check_start(start_from_text(shape_of(settings), UNITS, str(tmp_path / "text")), weights, settings)


@pytest.mark.slow
def test_the_whole_opt_125m_is_taken_over(tmp_path):
    weights = text_opt(tmp_path / "text", OPT_125M)
    check_start(start_from_text(LMShape(dropout=0.0), UNITS, str(tmp_path / "text")), weights, OPT_125M)


def test_text_models_that_do_not_fit(tmp_path):
    source = str(tmp_path / "text")
    weights = text_opt(tmp_path / "text", SMALL_TEXT)
    for change, message in (
        ({"dim": 64}, "set dim = 32$"),
        ({"layers": 3, "heads": 2}, "set layers = 2, heads = 4$"),
        ({"positions": 4096}, "knows 2048 positions; lower lm.shape.positions"),
    ):
        with pytest.raises(InputError, match=message):
            start_from_text(shape_of(SMALL_TEXT, **change), UNITS, source)
    config = tmp_path / "text" / "config.json"
    config.write_text(json.dumps({**COMMON, **SMALL_TEXT, "activation_function": "gelu"}), encoding="utf-8")
    with pytest.raises(InputError, match="layers with gelu"):
        start_from_text(shape_of(SMALL_TEXT), UNITS, source)
    del weights["model.decoder.layers.1.fc1.bias"]
    torch.save(weights, tmp_path / "text" / "pytorch_model.bin")
    with pytest.raises(FormatError, match=r"missing .*layers\.1\.fc1\.bias"):
        start_from_text(shape_of(SMALL_TEXT), UNITS, source)


TEXT = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "max_position_embeddings": 128, "pad_token_id": 2, "bos_token_id": 1, "eos_token_id": 89}  # fmt: skip
# Kinds of SmolLM2, of Qwen2.5 and Qwen3, and one that transformers itself runs; untied embeddings in one.
BODIES = {
    "llama": {**TEXT, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen2": {**TEXT, "num_key_value_heads": 2, "tie_word_embeddings": False},
    "qwen3": {**TEXT, "num_key_value_heads": 2, "head_dim": 16},
    "gpt_neox": TEXT,
}


def text_body(folder: Path, family: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config = CONFIG_MAPPING[family](**BODIES[family])
    torch.manual_seed(4)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("family", BODIES)
def test_a_text_model_of_any_family_is_trained_on_units(family, tmp_path):
    text = text_body(tmp_path / "text", family)
    shape = replace(SHAPE, heads=4)
    model: Any = start_from_text(shape, UNITS, str(tmp_path / "text"))
    vocabulary = {id(text.get_input_embeddings().weight), id(text.get_output_embeddings().weight)}
    body = {name for name, weight in text.named_parameters() if id(weight) not in vocabulary}
    own = dict(model.named_parameters())
    assert all(torch.equal(own[name], weight) for name, weight in text.named_parameters() if name in body)
    sizes = {tuple(weight.shape) for name, weight in own.items() if name not in body}
    assert sizes == {(UNITS + 1, 32)} and len(own) - len(body) == (1 if model.config.tie_word_embeddings else 2)
    assert model.get_input_embeddings().padding_idx is None

    loop = LoopConfig(steps=25, lr=1e-2, log_every=5, warmup=0.1)
    config = replace(CONFIG, loop=loop, shape=shape, text_model=str(tmp_path / "text"))
    train, valid = saved(markov(60, 0), tmp_path / "train"), saved(markov(10, 1), tmp_path / "valid")
    made = train_lm(config, train, tmp_path / "lm", valid=valid, device="cpu")
    scores = made.metrics["valid"]
    assert scores["model"]["nats_per_token"] < scores["unigram"]["nats_per_token"]
    lm = SpeechLM.load(made.path, device="cpu")
    assert lm.model.config.model_type == family
    # Every unit learned, that of the text's padding too.
    assert not torch.equal(lm.model.get_input_embeddings().weight[2], model.get_input_embeddings().weight[2])
    from transformers.models.auto.modeling_auto import AutoModelForCausalLM

    opened = AutoModelForCausalLM.from_pretrained(made.path)
    tokens = torch.tensor([[UNITS, 3, 1, 4]])
    torch.testing.assert_close(opened(tokens).logits, lm.model(tokens).logits)


def test_bodies_that_do_not_fit(tmp_path):
    text_body(tmp_path / "text", "qwen2")
    source = str(tmp_path / "text")
    for change, message in (
        ({"dim": 64, "dropout": 0.1}, "set dim = 32, dropout = 0.0$"),
        ({"feed_forward": 32}, "set feed_forward = 64$"),
        ({"positions": 256}, "knows 128 positions"),
        ({"family": "llama"}, "a decoder of type 'qwen2'; leave lm.shape.family out"),
    ):
        with pytest.raises(InputError, match=message):
            start_from_text(replace(SHAPE, **change), UNITS, source)


LLAMA = LMShape(2, 32, 4, 64, 64, 0.0, family="llama")


def test_a_llama_is_trained(tmp_path):
    config = replace(CONFIG, loop=LoopConfig(steps=30, lr=1e-2, log_every=10), shape=LLAMA)
    train, valid = saved(markov(120, 0), tmp_path / "train"), saved(markov(30, 1), tmp_path / "valid")
    scores = train_lm(config, train, tmp_path / "lm", valid=valid, device="cpu").metrics["valid"]
    assert scores["model"]["nats_per_token"] < scores["unigram"]["nats_per_token"] - 0.3
    record = json.loads((tmp_path / "lm" / RUN_FILE).read_text())
    assert record["params"] == 2 * (4 * 32**2 + 3 * 32 * 64 + 2 * 32) + 32 == count_parameters(LLAMA.build(UNITS))[0]


def test_the_text_model_is_a_parent(tmp_path):
    text_opt(tmp_path / "text", SMALL_TEXT)
    train = saved(markov(30, 0), tmp_path / "train")
    config = replace(CONFIG, loop=LoopConfig(steps=1), shape=shape_of(SMALL_TEXT), text_model=str(tmp_path / "text"))
    made = train_lm(config, train, tmp_path / "lm", device="cpu")
    assert made.record["parents"] == {"train": train.digest, "text_model": digest_path(tmp_path / "text")}
    assert read_toml(made.path / "config.toml")["text_model"] == str(tmp_path / "text")


def test_crops_longer_than_the_context_are_refused_before_training(tmp_path):
    train = saved(markov(5, 0), tmp_path / "train")
    config = LMConfig(LoopConfig(steps=1), LMShape(1, 32, 4, 64, positions=16), 25.0, row_tokens=64, batch_tokens=64)
    with pytest.raises(InputError, match="up to 40 tokens"):
        train_lm(config, train, tmp_path / "lm", device="cpu")
    assert not (tmp_path / "lm").exists()


def test_saved_folder_of_another_kind_is_refused(tmp_path):
    store = markov(3, 0)
    save_dir = tmp_path / "x"
    with new_artifact(save_dir, "tokens", config={}, seed=0, parents={}, metrics={}) as folder:
        store.save(folder)
        SpeechLM(SHAPE.build(UNITS), store.info, typical_durations(store)).write_payload(folder)
    with pytest.raises(Exception, match="lm"):
        SpeechLM.load(save_dir)
