"""The masked-prediction head and its file, which lies beside the encoder that it was trained with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from syllablelm.core.errors import FormatError, first_line
from syllablelm.encoders.weights import build_without_memory, fill_network, read_tensors

HEAD_FILE = "head.safetensors"


class PredictionHead(nn.Module):
    """Cosine logits over label embeddings (Hsu et al. 2021, Eq. 3): (.., D) -> (.., num_labels)."""

    def __init__(self, dim: int, num_labels: int, final_dim: int = 256, temperature: float = 0.1) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, final_dim)
        self.label_embeddings = nn.Parameter(torch.randn(num_labels, final_dim))
        self.temperature = temperature

    @property
    def num_labels(self) -> int:
        return len(self.label_embeddings)

    @property
    def dim(self) -> int:
        """Size of the vectors it takes."""
        return self.projection.in_features

    def forward(self, feats: Tensor) -> Tensor:
        projected = F.normalize(self.projection(feats).float(), dim=-1)
        return projected @ F.normalize(self.label_embeddings.float(), dim=-1).T / self.temperature

    def save(self, folder: Path) -> None:
        """Write ``head.safetensors``."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / HEAD_FILE, metadata={"temperature": str(self.temperature)})

    @classmethod
    def load(cls, folder: Path) -> PredictionHead:
        """Open what ``save`` wrote; a FormatError for no head, or a damaged one."""
        path = folder / HEAD_FILE
        if not path.exists():
            raise FormatError(
                f"{folder}: no {HEAD_FILE}; LossPred needs the masked-prediction head, which Hugging Face's HuBERT "
                "lacks: fit one ([head], as in the recipe hubert_500), or name fairseq's hubert_base_ls960.pt"
            )
        weights = read_tensors(path)
        try:
            with safe_open(path, framework="pt") as file:
                temperature = float((file.metadata() or {}).get("temperature", 0.1))
        except (SafetensorError, ValueError) as error:
            raise FormatError(f"{path}: not a prediction head ({first_line(error)})") from None
        return cls.of_weights(weights, temperature, path)

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor], temperature: float, path: Path) -> PredictionHead:
        """Build a head of its three weights; a FormatError, which names the file, where they do not fit together."""
        projection, labels = weights.get("projection.weight"), weights.get("label_embeddings")
        if projection is None or labels is None or projection.ndim != 2 or labels.ndim != 2:
            raise FormatError(f"{path}: not a prediction head (no matrices projection.weight and label_embeddings)")
        if not 0 < temperature < math.inf:
            raise FormatError(f"{path}: not a prediction head (temperature {temperature}: above 0 is needed)")
        (final_dim, dim), num_labels = projection.shape, len(labels)
        head = build_without_memory(lambda: cls(dim, num_labels, final_dim, temperature), path, len(weights))
        return fill_network(head, weights, path, "prediction head")
