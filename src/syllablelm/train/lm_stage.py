"""Speech language models: an OPT-style decoder on packed units (sections 4.1 and 5.2, Table 8)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.artifact import RUN, Artifact
from syllablelm.core.errors import InputError
from syllablelm.encoders.quiet import quiet_transformers
from syllablelm.lm.ngram import NgramModel
from syllablelm.lm.packing import IGNORED, PackPlan
from syllablelm.lm.speech_lm import DURATIONS_FILE, SpeechLM, load_opt, typical_durations
from syllablelm.lm.store import INFO_FILE, TokenStore
from syllablelm.train.heldout_curve import HeldOutCurve, curve_steps
from syllablelm.train.loop import Batch, LoopConfig, check_compiler, is_half
from syllablelm.train.peak_flops import find_peak_flops
from syllablelm.train.processes import join, total
from syllablelm.train.runlog import ELAPSED
from syllablelm.train.stage import StageRun, external_encoder, run_stage

RUN_FILE = RUN


@dataclass(frozen=True)
class LMShape:
    """An OPT decoder; the defaults are the paper's base model (Table 8).

    Args:
        layers, dim, heads, feed_forward: of the decoder (large: 24, 1024, 16, 4096).
        positions: learned positions, the longest sequence with its BOS.
        dropout: of everything but attention weights.
    """

    layers: int = 12
    dim: int = 768
    heads: int = 12
    feed_forward: int = 3072
    positions: int = 1024
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for key in ("layers", "dim", "heads", "feed_forward", "positions"):
            if getattr(self, key) < 1:
                raise InputError(f"lm.shape.{key} {getattr(self, key)}: must be at least 1")
        if self.dim % self.heads:
            raise InputError(f"lm.shape: dim {self.dim} is not a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"lm.shape.dropout {self.dropout}: must be 0 or above, and below 1")

    def build(self, num_tokens: int, *, norm_first: bool = True) -> nn.Module:
        """A random ``OPTForCausalLM`` over ``num_tokens`` units and BOS (seed torch first).

        Args:
            norm_first: layers begin with their norms, and one follows the last; opt-350m alone has it otherwise.
        """
        from transformers.models.opt.configuration_opt import OPTConfig
        from transformers.models.opt.modeling_opt import OPTForCausalLM

        return OPTForCausalLM(OPTConfig(**self._settings(num_tokens), do_layer_norm_before=norm_first))

    def _settings(self, num_tokens: int) -> dict[str, Any]:
        return {
            "vocab_size": num_tokens + 1,
            "hidden_size": self.dim,
            "word_embed_proj_dim": self.dim,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "ffn_dim": self.feed_forward,
            "max_position_embeddings": self.positions,
            "dropout": self.dropout,
            "attention_dropout": 0.0,
            "layerdrop": 0.0,
            "bos_token_id": num_tokens,
            "eos_token_id": None,
            "pad_token_id": None,
        }


@dataclass(frozen=True)
class LMConfig:
    """Training of a speech language model.

    Args:
        loop: the optimisation; ``batch_tokens`` takes the place of its ``batch_seconds``.
        shape: the decoder.
        crop_seconds: longest stretch of a recording (25 s in the paper).
        row_tokens: crops are packed into rows of so many positions.
        batch_tokens: positions in a micro-batch (80,000 an update in the paper).
        unique_tokens: train on so many tokens of recordings drawn at random, over and over; 0 for all of them.
        text_model: folder or hub id of a text OPT whose decoder layers and positions are taken over (TWIST); "" starts
            at random.
        compile: have torch compile the decoder, which takes a minute or two at the start; dropout then draws other
            numbers.
        peak_tflops: of one device, which utilisation is a share of; 0 takes a known GPU's data sheet and measures
            others.
    """

    loop: LoopConfig
    shape: LMShape = field(default_factory=LMShape)
    crop_seconds: float = 25.0
    row_tokens: int = 1024
    batch_tokens: int = 80_000
    unique_tokens: int = 0
    text_model: str = ""
    compile: bool = False
    peak_tflops: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.crop_seconds < float("inf"):
            raise InputError(f"lm.crop_seconds {self.crop_seconds}: must be above 0, and finite")
        if self.row_tokens < 2:
            raise InputError(f"lm.row_tokens {self.row_tokens}: must be at least 2")
        if self.unique_tokens < 0:
            raise InputError(f"lm.unique_tokens {self.unique_tokens}: must be 0 or above")
        if not 0 <= self.peak_tflops < float("inf"):
            raise InputError(f"lm.peak_tflops {self.peak_tflops}: must be 0 or above, and finite")
        if self.row_tokens > self.batch_tokens:
            raise InputError(f"lm.batch_tokens {self.batch_tokens} is less than one row of {self.row_tokens}")

    def rows(self, processes: int) -> int:
        """Rows that the whole training reads, in all processes together."""
        return self.loop.steps * self.loop.accumulate * (self.batch_tokens // self.row_tokens) * processes


class _PackedLoss(nn.Module):
    """Mean cross-entropy of a packed batch; no crop attends to another.

    Args:
        model: the language model.
        compiled: run it compiled.
        token_seconds: that a token's 6 N operations would take at the devices' peak.
    """

    def __init__(self, model: nn.Module, *, compiled: bool = False, token_seconds: float = 0.0) -> None:
        super().__init__()
        self.model, self.token_seconds = model, token_seconds
        # Of the method, not of the module, which would be saved by other names. Batches have one shape.
        self._run = torch.compile(model.forward, dynamic=False) if compiled else model.__call__

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        crop_BT, targets_BT = batch["crop"], batch["targets"]
        length = crop_BT.shape[1]
        causal_TT = torch.ones(length, length, dtype=torch.bool, device=crop_BT.device).tril()
        mask = ((crop_BT[:, :, None] == crop_BT[:, None, :]) & causal_TT)[:, None]
        output = self._run(
            input_ids=batch["tokens"], attention_mask=mask, position_ids=batch["positions"], use_cache=False
        )
        learned = targets_BT != IGNORED
        logits, targets = output.logits[learned].float(), targets_BT[learned]
        nats = F.cross_entropy(logits, targets, reduction="sum")
        tokens = (crop_BT > 0).sum()
        return {
            "loss": nats / len(targets),
            "nats": nats,
            "hits": (logits.argmax(-1) == targets).sum(),
            "targets": torch.tensor(len(targets)),
            "positions": torch.tensor(targets_BT.numel()),
            "tokens": tokens,
            "peak_seconds": tokens * self.token_seconds,
            "audio": batch["frames"].sum() * batch["frame_seconds"],
        }


class LanguageModelTask:
    """Packed batches and their loss, for the training loop.

    Args:
        peak_flops: of all devices together, which utilisation ("mfu") is a share of.
    """

    ratios: Mapping[str, tuple[str, str]] = {
        "nats_per_token": ("nats", "targets"),
        "nats_per_second": ("nats", "audio"),
        "accuracy": ("hits", "targets"),
        "filled": ("tokens", "positions"),
        "tokens_per_second": ("tokens", ELAPSED),
        "mfu": ("peak_seconds", ELAPSED),
    }
    reaches_all = True

    def __init__(
        self, model: nn.Module, store: TokenStore, config: LMConfig, seed: int, *, peak_flops: float = float("inf")
    ) -> None:
        seconds = 6 * count_parameters(model)[0] / peak_flops
        self.module = _PackedLoss(model, compiled=config.compile, token_seconds=seconds)
        self.plan = PackPlan(
            store,
            crop_seconds=config.crop_seconds,
            row_tokens=config.row_tokens,
            batch_tokens=config.batch_tokens,
            seed=seed,
        )
        self.frame_seconds = store.info.frame_seconds

    def batch(self, number: int) -> Batch:
        """The arrays of one micro-batch (``packing.PackedBatch``)."""
        packed = self.plan.batch(number)
        tensors = {name: torch.from_numpy(getattr(packed, name)) for name in vars(packed)}
        seconds = float(packed.frames.sum()) * self.frame_seconds
        return tensors | {"frame_seconds": self.frame_seconds, "seconds": seconds}


def train_lm(
    config: LMConfig,
    train: Artifact,
    out: Path,
    *,
    valid: Artifact | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Artifact:
    """Train a language model on a token store; the artifact opens with ``AutoModelForCausalLM`` too.

    Args:
        train, valid: "tokens" artifacts; the model, unigrams and bigrams are scored on ``valid``, the model at some
            steps on the way too.
    """
    parents = {"train": train.digest} | ({"valid": valid.digest} if valid is not None else {})
    if config.text_model:
        parents["text_model"] = external_encoder(config.text_model).digest

    def work(run: StageRun) -> None:
        store = TokenStore.open(train.path)
        if config.unique_tokens:
            store = store.limited(config.unique_tokens, seed)
        where = join(device)
        if config.compile:
            check_compiler(where, "lm.compile")
        torch.manual_seed(seed)
        if config.text_model:
            model = start_from_text(config.shape, store.info.num_tokens, config.text_model)
        else:
            model = config.shape.build(store.info.num_tokens)
        peak, source = find_peak_flops(where, half=is_half(config.loop, where), tflops=config.peak_tflops)
        processes = int(total([1.0])[0])
        peak *= processes
        task = LanguageModelTask(model, store, config, seed, peak_flops=peak)
        info = replace(store.info, trained_tokens=_check_crops(task.plan.longest, config))
        speech_lm = SpeechLM(model, info, typical_durations(store))
        held_out = None if valid is None else TokenStore.open(valid.path)
        curve = None
        if held_out is not None:
            steps = curve_steps(config.loop, config.rows(processes) * config.row_tokens, len(held_out.tokens))
            curve = HeldOutCurve(speech_lm, held_out, steps, run.scratch)
        last = run.train(task, config.loop, "lm", prefix="train_", after_step=curve)
        save_lm(speech_lm, run.folder)
        # What is named twice is read twice, but does not differ; older stores do not tell.
        unique = min(len(store.tokens), train.metrics.get("unique_tokens", len(store.tokens)))
        record = run_record(config, model, store, task.plan.tokens(config.rows(processes)), unique, processes)
        record |= {"peak_flops": peak, "peak_source": source, "wall_seconds": last["wall_seconds"]}
        # A run that only had its end to repeat has no log line in the other processes, which write nothing.
        record |= {name: last.get(name) for name in ("seconds_per_second", "tokens_per_second", "mfu")}
        if held_out is not None and curve is not None:
            run.metrics["valid"] = record["valid"] = compare_with_ngrams(speech_lm, store, held_out)
            # The step's share of all tokens, the loss there per token and per second.
            record["curve"] = [
                [record["tokens"] * step // config.loop.steps, *losses] for step, losses in curve.read().items()
            ]
        (run.folder / RUN_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    return run_stage("lm", out, config=config, seed=seed, parents=parents, work=work, device=device)


def compare_with_ngrams(model: SpeechLM, train: TokenStore, valid: TokenStore) -> dict[str, dict[str, float | int]]:
    """Likelihoods of held-out units under the model and under n-grams of the training units."""
    return {
        "model": model.evaluate(valid).as_dict(),
        "unigram": NgramModel(train, 1).evaluate(valid).as_dict(),
        "bigram": NgramModel(train, 2).evaluate(valid).as_dict(),
    }


def save_lm(model: SpeechLM, folder: Path) -> None:
    """Write the Hugging Face model, the vocabulary and the durations into an existing folder."""
    with quiet_transformers():
        model.model.save_pretrained(folder)
    (folder / INFO_FILE).write_text(json.dumps(model.info.as_table(), indent=2) + "\n", encoding="utf-8")
    np.save(folder / DURATIONS_FILE, model.durations)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(non-embedding, all) parameters; token and position embeddings are embeddings."""
    total = sum(p.numel() for p in model.parameters())
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    return total - embeddings, total


def run_record(
    config: LMConfig, model: nn.Module, store: TokenStore, tokens: int, unique: int, processes: int
) -> dict[str, Any]:
    """What the scaling study wants to know about a run: sizes, tokens that all processes read, FLOPs (6 N D).

    The speed of the last logged steps stands beside it: seconds of audio and units per second, and ``mfu``, the share
    of ``peak_flops`` that 6 N for each unit amount to.
    """
    parameters, everything = count_parameters(model)
    return {
        "params": parameters,
        "params_total": everything,
        "tokens": tokens,
        "unique_tokens": unique,
        "flops": 6 * parameters * tokens,
        "num_units": store.info.num_tokens,
        "tokenizer": store.info.tokenizer,
        "processes": processes,
        "layers": config.shape.layers,
        "dim": config.shape.dim,
    }


def start_from_text(shape: LMShape, num_tokens: int, source: str) -> nn.Module:
    """A model of units with the layers and the positions of a text OPT; token embeddings are random (TWIST).

    Projections between embeddings and layers (opt-350m) belong to the text's vocabulary and are left behind with it.

    Raises:
        InputError: a shape that is not the text model's.
    """
    text: Any = load_opt(Path(source)) if Path(source).is_dir() else _load_hub_opt(source)
    found = text.config
    shapes = {
        "layers": (shape.layers, found.num_hidden_layers),
        "dim": (shape.dim, found.hidden_size),
        "heads": (shape.heads, found.num_attention_heads),
        "feed_forward": (shape.feed_forward, found.ffn_dim),
    }
    wrong = [f"{name} = {theirs}" for name, (ours, theirs) in shapes.items() if ours != theirs]
    if wrong:
        raise InputError(f"lm.text_model {source}: a decoder of another shape; in lm.shape set {', '.join(wrong)}")
    if shape.positions > found.max_position_embeddings:
        raise InputError(
            f"lm.text_model {source}: knows {found.max_position_embeddings} positions; lower lm.shape.positions "
            f"({shape.positions}) to that or less"
        )
    model: Any = shape.build(num_tokens, norm_first=found.do_layer_norm_before)
    if found.activation_function != model.config.activation_function:
        raise InputError(f"lm.text_model {source}: layers with {found.activation_function}, not an OPT of Meta's kind")
    own, other = model.state_dict(), text.state_dict()
    for name, tensor in own.items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            continue
        if name not in other:
            raise InputError(f"lm.text_model {source}: {name} is missing; not an OPT of Meta's kind")
        # Positions are counted from row 2 in both, and the text model may know more of them.
        tensor.copy_(other[name][: len(tensor)])
    return model


def _load_hub_opt(source: str) -> nn.Module:
    from transformers.models.opt.modeling_opt import OPTForCausalLM

    try:
        with quiet_transformers():
            return OPTForCausalLM.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise InputError(f"lm.text_model {source}: cannot be opened ({str(error).splitlines()[0]})") from None


def _check_crops(longest: int, config: LMConfig) -> int:
    """The length of the longest crop, after checking that the model can learn from it.

    Raises:
        InputError: it has more tokens than the model has positions, or only one.
    """
    if longest > config.shape.positions:
        raise InputError(
            f"lm.shape.positions {config.shape.positions}: crops of {config.crop_seconds:g} s have up to {longest} "
            "tokens; raise it or shorten lm.crop_seconds"
        )
    if longest < 2:
        raise InputError(f"lm.crop_seconds {config.crop_seconds:g}: no crop has more than one token; raise it")
    return longest
