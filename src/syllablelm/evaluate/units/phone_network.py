"""The network of the phone probe: units and lengths of segments to CTC outputs, its training and greedy decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from syllablelm.core.errors import InputError, check_fields
from syllablelm.data.corpus import batches_by_seconds
from syllablelm.encoders.device import pick_device

BLANK = 0
UNKNOWN = 0


@dataclass(frozen=True)
class ProbeSettings:
    """Hyper-parameters of the probe, tuned once on held-out training recordings of LibriSpeech.

    Args:
        dim, blocks, kernel: width of embedding and convolutions, number of blocks, width in segments (odd).
        dropout: dropout rate of activations.
        unit_dropout: share of training units that are replaced by the embedding of unknown units.
        slots_per_phone: CTC outputs per segment, as a multiple of the mean number of phones per segment, rounded up.
        batch_seconds: seconds of audio per update, padding included.
        learning_rate, weight_decay: peak of the one-cycle schedule, and weight decay of AdamW.
        steps: number of updates.

    Raises:
        InputError: a value out of range.
    """

    dim: int = 256
    blocks: int = 3
    kernel: int = 5
    dropout: float = 0.1
    unit_dropout: float = 0.15
    slots_per_phone: float = 2.5
    batch_seconds: float = 25.0
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    steps: int = 2400

    def __post_init__(self) -> None:
        check_fields(self, "dim blocks kernel steps", least=1)
        check_fields(self, "dropout unit_dropout", least=0, below=1)
        check_fields(self, "slots_per_phone batch_seconds learning_rate", above=0)
        check_fields(self, "weight_decay", least=0)
        if self.kernel % 2 == 0:
            raise InputError(f"kernel {self.kernel}: must be odd")


@dataclass(frozen=True)
class Example:
    """Input of the network for one recording.

    Args:
        unit: (num_segments,) int64; `UNKNOWN`, or 1 + the index of the unit among those of the training list.
        log_seconds: (num_segments,) float32 logarithm of each segment's length in seconds.
        seconds: length of the recording.
        labels: (num_phones,) int64 phones from 1 on; empty where they are not needed.
    """

    unit: npt.NDArray[np.int64]
    log_seconds: npt.NDArray[np.float32]
    seconds: float
    labels: npt.NDArray[np.int64]


class PhoneNetwork(nn.Module):
    """Embedding, residual convolutions over segments, and a fixed number of CTC outputs per segment.

    Args:
        num_units, num_labels: units of the training list without unknown ones; phone labels without blank.
        slots: CTC outputs per segment.
        settings: width, depth, dropout.

    A recording gets the same outputs alone and in a batch: convolutions see zeros where padding is.
    """

    length_mean: torch.Tensor
    length_deviation: torch.Tensor

    def __init__(self, num_units: int, num_labels: int, slots: int, settings: ProbeSettings) -> None:
        super().__init__()
        self.slots = slots
        dim, kernel = settings.dim, settings.kernel
        self.embed = nn.Embedding(num_units + 1, dim)
        self.length = nn.Linear(1, dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(settings.blocks))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel, padding=kernel // 2) for _ in range(settings.blocks)
        )
        self.final = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, slots * (num_labels + 1))
        # Mean and deviation of log lengths in training.
        self.register_buffer("length_mean", torch.zeros(()))
        self.register_buffer("length_deviation", torch.ones(()))

    def forward(self, unit_BT: torch.Tensor, log_seconds_BT: torch.Tensor, valid_BT: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities, (B, T * slots, num_labels + 1).

        Args:
            unit_BT: units as in `Example`.
            log_seconds_BT: log lengths.
            valid_BT: True where a segment is, False at padding.
        """
        length_BT1 = ((log_seconds_BT - self.length_mean) / self.length_deviation)[..., None]
        hidden_BTD = self.dropout(self.embed(unit_BT) + self.length(length_BT1))
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            masked_BTD = norm(hidden_BTD) * valid_BT[..., None]
            added_BDT = functional.gelu(convolution(masked_BTD.transpose(1, 2)))
            hidden_BTD = hidden_BTD + self.dropout(added_BDT.transpose(1, 2))
        logits_BTK = self.out(self.dropout(self.final(hidden_BTD)))
        return logits_BTK.reshape(len(unit_BT), unit_BT.shape[1] * self.slots, -1).log_softmax(-1)


def train_network(
    examples: Sequence[Example],
    num_units: int,
    num_labels: int,
    slots: int,
    settings: ProbeSettings,
    *,
    seed: int,
    device: str,
    progress: Callable[[int], None],
) -> tuple[PhoneNetwork, float]:
    """Train a network from scratch.

    Args:
        examples: training recordings, none without segments.
        num_units, num_labels, slots, settings: as for `PhoneNetwork`.
        seed, device: see `syllablelm.evaluate`.
        progress: called with 1 after each update.

    Returns:
        The network, ready for reading, and the mean CTC loss per phone in nats over the last tenth of the steps.
    """
    chosen = pick_device(device)
    devices = [] if chosen.type == "cpu" else [chosen]
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        network = PhoneNetwork(num_units, num_labels, slots, settings)
        lengths = np.concatenate([example.log_seconds for example in examples])
        network.length_mean.fill_(float(lengths.mean()))
        network.length_deviation.fill_(float(lengths.std()) or 1.0)
        network.to(chosen).train()
        optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _one_cycle(step / settings.steps))
        last: list[float] = []
        for step, batch in enumerate(_batches(examples, settings, seed)):
            unit_BT, log_seconds_BT, valid_BT = _pad(batch, chosen)
            hidden = torch.rand(unit_BT.shape, device=chosen) < settings.unit_dropout
            log_probs_BSK = network(unit_BT.masked_fill(hidden, UNKNOWN), log_seconds_BT, valid_BT)
            targets = torch.from_numpy(np.concatenate([example.labels for example in batch])).to(chosen)
            target_lengths = torch.tensor([len(example.labels) for example in batch])
            # A recording with more phones than slots has no path; its infinite loss must not spoil the batch.
            losses_B = functional.ctc_loss(
                log_probs_BSK.transpose(0, 1),
                targets,
                valid_BT.sum(1).cpu() * slots,
                target_lengths,
                blank=BLANK,
                reduction="none",
                zero_infinity=True,
            )
            loss = losses_B.sum() / max(1, int(target_lengths.sum()))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if step >= settings.steps - max(1, settings.steps // 10):
                last.append(loss.item())
            progress(1)
    return network.eval(), float(np.mean(last))


@torch.no_grad()
def read_phones(network: PhoneNetwork, example: Example) -> list[int]:
    """Return the greedy CTC reading of one recording: labels from 1 on, deduplicated, without blanks."""
    if not len(example.unit):
        return []
    best = network(*_pad([example], network.out.weight.device))[0].argmax(-1).cpu().numpy()
    new = np.append(True, best[1:] != best[:-1])
    return best[new & (best != BLANK)].tolist()


def _one_cycle(done: float) -> float:
    """Return the share of the peak learning rate: linear warm-up over a tenth of the steps, then a cosine to zero."""
    warm = 0.1
    return (done + 1e-3) / (warm + 1e-3) if done < warm else 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


def _batches(examples: Sequence[Example], settings: ProbeSettings, seed: int) -> Iterator[list[Example]]:
    """Yield a batch for each step: shuffled passes over the recordings, those of similar length together."""
    # By segments, not seconds: they are what is padded.
    rate = sum(len(example.unit) for example in examples) / sum(example.seconds for example in examples)
    counts = [float(len(example.unit)) for example in examples]
    step, epoch = 0, 0
    while step < settings.steps:
        shuffle = int(np.random.default_rng((seed, epoch)).integers(2**31))
        for batch in batches_by_seconds(counts, settings.batch_seconds * rate, shuffle_seed=shuffle):
            if step < settings.steps:
                yield [examples[index] for index in batch]
                step += 1
        epoch += 1


def _pad(batch: Sequence[Example], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (B, T) units, log lengths, and True where a segment is."""
    shape = (len(batch), max(len(example.unit) for example in batch))
    unit, log_seconds, valid = np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape, bool)
    for row, example in enumerate(batch):
        size = len(example.unit)
        unit[row, :size], log_seconds[row, :size], valid[row, :size] = example.unit, example.log_seconds, True
    first, second, third = (torch.from_numpy(array).to(device) for array in (unit, log_seconds, valid))
    return first, second, third
