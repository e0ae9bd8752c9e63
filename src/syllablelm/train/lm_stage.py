"""Training of speech language models on packed units (sections 4.1 and 5.2, Table 8)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from syllablelm.core.artifact import RUN, Artifact, current_digest
from syllablelm.core.config import check_seed
from syllablelm.core.errors import InputError, check_fields
from syllablelm.core.files import atomic_path
from syllablelm.lm.backbone import LMShape, start_from_text
from syllablelm.lm.ngram import NgramModel
from syllablelm.lm.packing import PackPlan
from syllablelm.lm.speech_lm import SpeechLM, count_parameters, typical_durations
from syllablelm.lm.store import TokenStore
from syllablelm.train.loop import Batch, LoopConfig, check_compiler, is_half
from syllablelm.train.packed_loss import PackedLoss, Way, choose_way, packed_arrays
from syllablelm.train.peak_flops import find_peak_flops
from syllablelm.train.processes import join, on_main, total
from syllablelm.train.runlog import ELAPSED
from syllablelm.train.stage import StageRun, external_encoder, run_stage
from syllablelm.train.token_stage import UnitsConfig, make_tokens, tokenizer_info

RUN_FILE = RUN
CURVE_FILE = "curve.json"
# Maximum number of points, and the smallest share of the steps at which one is measured.
_POINTS, _EARLIEST = 6, 1 / 8
# Maximum cost of all points as a share of training, whose tokens cost three times as much as held-out ones.
_COST, _TRAINING = 0.05, 3


@dataclass(frozen=True)
class LMConfig:
    """Training of a speech language model.

    Args:
        loop: optimisation; ``batch_tokens`` replaces its ``batch_seconds``.
        shape: decoder.
        crop_seconds: maximum length of a crop of a recording (25 s in the paper).
        row_tokens: length in tokens of the rows into which crops are packed.
        batch_tokens: tokens per micro-batch, padding included (80,000 per update in the paper).
        without_padding: count ``batch_tokens`` without padding.
        unique_tokens: number of tokens, of recordings drawn at random, that training repeats; 0: all.
        text_model: folder or hub id of a text model, an OPT, Llama, Qwen or the like, whose layers are the initial ones
            (TWIST); "": random initial weights.
        compile: compile the decoder with torch, which takes a minute or two at the start; dropout then draws other
            numbers.
        peak_tflops: peak TFLOP/s of one device, the reference of utilisation; 0: a known GPU's data sheet, measured for
            other devices.
    """

    loop: LoopConfig
    shape: LMShape = field(default_factory=LMShape)
    crop_seconds: float = 25.0
    row_tokens: int = 1024
    batch_tokens: int = 80_000
    without_padding: bool = False
    unique_tokens: int = 0
    text_model: str = ""
    compile: bool = False
    peak_tflops: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "crop_seconds", above=0)
        check_fields(self, "peak_tflops", least=0)
        check_fields(self, "row_tokens", least=2)
        check_fields(self, "unique_tokens", least=0, most=2**63)
        if self.row_tokens > self.batch_tokens:
            raise InputError(f"batch_tokens {self.batch_tokens}: less than one row (row_tokens {self.row_tokens})")


class LanguageModelTask:
    """Packed batches and their loss, for the training loop.

    Args:
        peak_flops: peak FLOP/s of all devices together, the reference of utilisation ("mfu").
        way: how crops are kept apart, see ``packed_loss``; "varlen" needs a model prepared by ``use_varlen``.
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
        self,
        model: nn.Module,
        store: TokenStore,
        config: LMConfig,
        seed: int,
        *,
        peak_flops: float = float("inf"),
        way: Way = "mask",
    ) -> None:
        seconds = 6 * count_parameters(model)[0] / peak_flops
        self.module = PackedLoss(model, way, compiled=config.compile, token_seconds=seconds)
        keys = ("crop_seconds", "row_tokens", "batch_tokens", "without_padding")
        self.plan = PackPlan(store, **{key: getattr(config, key) for key in keys}, seed=seed)
        self.frame_seconds = store.info.frame_seconds

    def batch(self, number: int) -> Batch:
        """Return one micro-batch (``packed_arrays``)."""
        return packed_arrays(self.plan.batch(number), self.module.way, self.frame_seconds)


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
        config: model and training.
        train, valid: "tokens" artifacts; the model and n-grams are scored on ``valid``, the model also at
            some steps of the training.
    """
    parents = {"train": current_digest(train)} | ({"valid": current_digest(valid)} if valid is not None else {})
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
        way = choose_way(model.to(where), where, half=is_half(config.loop, where), compiled=config.compile)
        task = LanguageModelTask(model, store, config, seed, peak_flops=peak, way=way)
        longest = task.plan.longest
        # Of the whole training, all processes together.
        rows = config.loop.steps * config.loop.accumulate * task.plan.rows_per_batch * processes
        if longest > config.shape.positions:
            raise InputError(
                f"lm.shape.positions {config.shape.positions}: crops of {config.crop_seconds:g} s have up to {longest} "
                "tokens; raise it or shorten lm.crop_seconds"
            )
        if longest < 2:
            raise InputError(f"lm.crop_seconds {config.crop_seconds:g}: no crop has more than one token; raise it")
        info = replace(store.info, trained_tokens=longest)
        speech_lm = SpeechLM(model, info, typical_durations(store))
        held_out = None if valid is None else TokenStore.open(valid.path)
        curve = None
        if held_out is not None:
            steps = curve_steps(config.loop, rows * config.row_tokens, len(held_out.tokens))
            curve = HeldOutCurve(speech_lm, held_out, steps, run.scratch)
        last = run.train(task, config.loop, "lm", prefix="train_", after_step=curve)
        speech_lm.write_payload(run.folder)
        # A source that is named twice is read twice.
        unique = min(len(store.tokens), train.metrics.get("unique_tokens", len(store.tokens)))
        (parameters, everything), tokens = count_parameters(model), task.plan.tokens(rows)
        # Sizes, tokens of all processes and FLOPs (6 N D), for scaling studies.
        record: dict[str, Any] = {
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
            "peak_flops": peak,
            "peak_source": source,
            "wall_seconds": last["wall_seconds"],
        }
        record |= {name: last[name] for name in ("seconds_per_second", "tokens_per_second", "mfu")}
        if held_out is not None and curve is not None:
            ngrams = {name: NgramModel(store, order) for order, name in enumerate(("unigram", "bigram", "trigram"), 1)}
            models = {"model": speech_lm, **ngrams}
            scored = {name: each.evaluate(held_out).as_dict() for name, each in models.items()}
            run.metrics["valid"] = record["valid"] = scored
            # Tokens until the step, and the loss per token and per second there.
            steps = curve.read().items()
            record["curve"] = [[tokens * step // config.loop.steps, *losses] for step, losses in steps]
        (run.folder / RUN_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    return run_stage("lm", out, config=config, seed=seed, parents=parents, work=work, device=device)


def curve_steps(loop: LoopConfig, tokens: int, held_out: int) -> list[int]:
    """Return the steps after which the loss is measured: evenly spaced in the logarithm, after the warm-up.

    Args:
        tokens, held_out: number of tokens of the whole training, and of held-out ones.
    """
    count = min(_POINTS, int(_COST * _TRAINING * tokens / max(1, held_out)))
    steps = {round(loop.steps * _EARLIEST ** (number / (count + 1))) for number in range(1, count + 1)}
    return sorted(step for step in steps if max(1, loop.warmup * loop.steps) <= step < loop.steps)


class HeldOutCurve:
    """Measures the loss of a model in training on all held-out tokens (``valid``) after some of its steps.

    The folder ``work`` keeps the losses until the end of the run, which may be stopped and resumed.
    """

    def __init__(self, model: SpeechLM, valid: TokenStore, steps: Sequence[int], work: Path) -> None:
        self._model, self._valid, self._steps = model, valid, frozenset(steps)
        self._path = work / CURVE_FILE

    def __call__(self, step: int) -> None:
        """Measure after this step if it is one of them; all processes must call."""
        if step in self._steps:
            on_main(lambda: self._measure(step))

    def read(self) -> dict[int, tuple[float, float]]:
        """Return nats per token and per second by step, in order."""
        rows = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else []
        return {step: (by_token, by_second) for step, by_token, by_second in rows if step in self._steps}

    def _measure(self, step: int) -> None:
        decoder = self._model.model
        decoder.eval()
        found = self._model.evaluate(self._valid).as_dict()
        decoder.train()
        # Losses of later steps are from a run that was resumed before them.
        rows = [[known, *losses] for known, losses in self.read().items() if known < step]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        rows.append([step, found["nats_per_token"], found["nats_per_second"]])
        with atomic_path(self._path) as part:
            part.write_text(json.dumps(rows) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class LMRecipe:
    """The stages of ``train lm``: units to train on, and the language model.

    Args:
        name: name of the output folder below runs/.
        units, lm: configuration of the stages.
        seed: random seed.
    """

    name: str
    units: UnitsConfig
    lm: LMConfig
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)


def make_token_stores(units: UnitsConfig, out: Path) -> tuple[Artifact, Artifact | None]:
    """Pack the units of a recipe into ``out``/train and, where some are held out, ``out``/valid."""
    info = tokenizer_info(units.tokenizer)
    train = make_tokens(units.train, info, out / "train", without=units.valid)
    return train, make_tokens(units.valid, info, out / "valid") if units.valid else None


def train_lm_recipe(recipe: LMRecipe, out: Path, *, device: str = "auto") -> Artifact:
    """Run the stages of a language model's recipe below ``out``; finished ones are skipped."""
    join(device)
    train, valid = make_token_stores(recipe.units, out)
    return train_lm(recipe.lm, train, out / "lm", valid=valid, seed=recipe.seed, device=device)
