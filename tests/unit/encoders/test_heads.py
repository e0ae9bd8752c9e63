from __future__ import annotations

import numpy as np
import pytest
import torch

from syllablelm.core.errors import FormatError
from syllablelm.encoders.heads import HEAD_FILE, PredictionHead


class TestHead:
    def test_cosine_logits(self):
        torch.manual_seed(0)
        head = PredictionHead(6, 5, final_dim=4, temperature=0.2)
        feats = torch.randn(3, 2, 6)
        logits = head(feats).detach()
        assert logits.shape == (3, 2, 5) and head.num_labels == 5
        for b in range(3):
            for t in range(2):
                projected = (head.projection.weight @ feats[b, t] + head.projection.bias).detach().numpy()
                for label, embedding in enumerate(head.label_embeddings.detach().numpy()):
                    cosine = projected @ embedding / np.linalg.norm(projected) / np.linalg.norm(embedding)
                    assert float(logits[b, t, label]) == pytest.approx(cosine / 0.2, abs=1e-5)

    def test_lengths_of_vectors_do_not_matter(self):
        torch.manual_seed(0)
        head = PredictionHead(6, 5, final_dim=4)
        feats = torch.randn(7, 6)
        before = head(feats).detach()
        with torch.no_grad():
            head.label_embeddings.mul_(torch.rand(5, 1) + 0.5)
        assert torch.allclose(head(feats), before, atol=1e-5)
        assert float(before.abs().max()) <= 10.0001  # cosine over the default temperature


class TestFile:
    def test_round_trip(self, tmp_path):
        torch.manual_seed(0)
        head = PredictionHead(6, 5, final_dim=4, temperature=0.3)
        head.save(tmp_path)
        again = PredictionHead.load(tmp_path)
        assert (again.dim, again.num_labels, again.temperature) == (6, 5, 0.3)
        feats = torch.randn(3, 6)
        assert torch.equal(again(feats), head(feats))

    def test_none(self, tmp_path):
        with pytest.raises(FormatError, match=f"no {HEAD_FILE}; LossPred needs"):
            PredictionHead.load(tmp_path)

    def test_no_head(self, tmp_path):
        (tmp_path / HEAD_FILE).write_bytes(b"12345678{}")
        with pytest.raises(FormatError, match="its weights cannot be read") as caught:
            PredictionHead.load(tmp_path)
        assert "\n" not in str(caught.value)
