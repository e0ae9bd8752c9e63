"""LossPred (section 3.1): how well hidden frames are predicted from what lies just before or just after the mask.

Row r of the upper triangle holds the probabilities of the labels at columns c in (r, r + span/2] when the span that
starts right after r is masked; row r of the lower triangle those at c in [r - span/2, r) when the span that ends
right before r is masked. One mask {a+1, ..., a+span} therefore serves the upper part of row a and the lower part of
row a + span + 1. Spans further apart than ``gap`` frames are masked in one forward pass, which makes the number of
passes at most span + gap whatever the length.

Choices where the paper is silent: labels are the arg-max of the model's own head on the clean audio unless given;
probabilities are soft-maxed with the head's own temperature; masks that run off an edge are cut there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from syllablelm.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


LONGEST_SPAN = 10_000
"""Longest masked span, and gap between two, in frames."""


class MaskedModel(Protocol):
    """What LossPred needs of a model: see ``encoders.MaskedPredictor``."""

    encoder: Any
    head: Any

    def inputs(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]: ...

    def hidden(self, input_BTD: Tensor, frames_B: Tensor, mask_BT: Tensor | None = None) -> Tensor: ...


def check_spans(span: int, gap: int) -> None:
    """Refuse (InputError) a span that is odd or not from 2 to `LONGEST_SPAN`, or a gap not from 0 to `LONGEST_SPAN`."""
    if not (2 <= span <= LONGEST_SPAN and span % 2 == 0 and 0 <= gap <= LONGEST_SPAN):
        raise InputError(
            f"span {span}, gap {gap}: span must be even and from 2 to {LONGEST_SPAN}, gap from 0 to {LONGEST_SPAN}"
        )


def span_starts(num_frames: int, span: int, shift: int, gap: int) -> npt.NDArray[np.int64]:
    """The anchors a of the spans {a+1..a+span} that one pass masks: a = shift (mod span + gap), a in [-span, T-2]."""
    anchors = np.arange(-span, num_frames - 1)
    return anchors[(anchors - shift) % (span + gap) == 0]


def losspred_matrix(
    model: MaskedModel,
    waveform: npt.NDArray[np.float32],
    *,
    span: int = 50,
    gap: int = 150,
    labels: npt.ArrayLike | None = None,
    batch_frames: int = 6_000,
) -> npt.NDArray[np.float32]:
    """The loss-prediction matrix C of section 3.1.

    Args:
        model, waveform: a ``MaskedPredictor``, and float32 (num_samples,) at 16 kHz.
        span: masked frames per span (even; 50 is one second).
        gap: visible frames between two spans of one pass.
        labels: (T,) label of every frame; None takes the model's own arg-max on the clean audio.
        batch_frames: frames of all passes computed at once; bounds memory, never changes the result.

    Returns:
        float32 (T, T) probabilities; 0 on the diagonal and where abs(r - c) > span / 2; (0, 0) below one frame.

    Raises:
        InputError: a span or a gap that `check_spans` refuses, or labels of another length or out of range.
    """
    import torch

    check_spans(span, gap)
    if model.encoder.num_frames(len(waveform)) == 0:
        return np.zeros((0, 0), dtype=np.float32)
    with torch.inference_mode():
        device = model.encoder.device
        wave = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))[None].to(device)
        input_1TD, frames_1 = model.inputs(wave, torch.tensor([wave.shape[1]], device=device))
        num_frames = int(frames_1[0])
        labels_T = _labels(model, input_1TD, frames_1, labels)
        matrix = np.zeros((num_frames, num_frames), dtype=np.float32)
        passes = [span_starts(num_frames, span, shift, gap) for shift in range(span + gap)]
        passes = [anchors for anchors in passes if len(anchors)]
        at_once = max(1, batch_frames // max(num_frames, 1))
        for first in range(0, len(passes), at_once):
            _fill(matrix, model, input_1TD, frames_1, labels_T, passes[first : first + at_once], span)
    return matrix


def _labels(model: MaskedModel, input_1TD: Tensor, frames_1: Tensor, labels: npt.ArrayLike | None) -> Tensor:
    import torch

    num_frames = input_1TD.shape[1]
    if labels is None:
        return model.head(model.hidden(input_1TD, frames_1))[0].argmax(-1)
    given = torch.as_tensor(np.asarray(labels, dtype=np.int64), device=input_1TD.device)
    if given.shape != (num_frames,):
        raise InputError(f"losspred_matrix: {tuple(given.shape)} labels for {num_frames} frames")
    if given.min() < 0 or given.max() >= model.head.num_labels:
        raise InputError(f"losspred_matrix: labels must lie in 0 to {model.head.num_labels - 1}, as the head's do")
    return given


def _fill(
    matrix: npt.NDArray[np.float32],
    model: MaskedModel,
    input_1TD: Tensor,
    frames_1: Tensor,
    labels_T: Tensor,
    passes: list[npt.NDArray[np.int64]],
    span: int,
) -> None:
    """Run some passes in one batch and write their two half spans into the matrix."""
    import torch

    num_frames = len(matrix)
    mask = np.zeros((len(passes), num_frames), dtype=bool)
    for row, anchors in zip(mask, passes, strict=True):
        covered = anchors[:, None] + np.arange(1, span + 1)
        row[covered[(covered >= 0) & (covered < num_frames)]] = True
    mask_BT = torch.from_numpy(mask).to(input_1TD.device)
    hidden = model.hidden(input_1TD.expand(len(passes), -1, -1), frames_1.expand(len(passes)), mask_BT)
    logits = model.head(hidden[mask_BT])
    # Only the probability of each frame's own label is kept.
    wanted = labels_T.expand(len(passes), -1)[mask_BT]
    probs = torch.zeros(mask.shape, device=hidden.device)
    probs[mask_BT] = torch.softmax(logits.float(), dim=-1).gather(1, wanted[:, None])[:, 0]
    probs_BT = probs.cpu().numpy()
    half = span // 2
    for row, anchors in zip(probs_BT, passes, strict=True):
        for anchor in anchors.tolist():
            if anchor >= 0:
                columns = slice(anchor + 1, min(anchor + 1 + half, num_frames))
                matrix[anchor, columns] = row[columns]
            after = anchor + span + 1
            if after < num_frames:
                columns = slice(max(after - half, 0), after)
                matrix[after, columns] = row[columns]
