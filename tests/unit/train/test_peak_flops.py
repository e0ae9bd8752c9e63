"""Peaks of devices: names as torch gives them, and where the numbers come from."""

from __future__ import annotations

import pytest
import torch

from syllablelm.scaling.flops import PEAK_TFLOPS
from syllablelm.train.peak_flops import _NAMES, find_peak_flops, known_peak_flops

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
        ("Tesla V100-SXM2-32GB", 125),
        ("NVIDIA A40", 149.7),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA RTX A6000", 154.8),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA L40", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA RTX 6000 Ada Generation", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("Tesla V100-PCIE-16GB", None),
    ],
)
def test_names(name, tflops):
    assert known_peak_flops(name) == (None if tflops is None else tflops * 1e12)


def test_every_gpu_of_the_table_has_a_name():
    assert _NAMES.keys() == PEAK_TFLOPS.keys()


def test_where_the_number_is_from(monkeypatch):
    assert find_peak_flops(CPU, tflops=3.0) == (3e12, "recipe")
    monkeypatch.setattr("syllablelm.train.peak_flops.measure_peak_flops", lambda device, half: 7e9 if half else 5e9)
    assert find_peak_flops(CPU) == (5e9, "measured")
    assert find_peak_flops(CPU, half=True) == (7e9, "measured")
    gpu = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: {gpu: "NVIDIA A40"}[device])
    assert find_peak_flops(gpu, half=True) == (149.7e12, "data sheet")
    assert find_peak_flops(gpu) == (5e9, "measured")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Unheard-of")
    assert find_peak_flops(gpu, half=True) == (7e9, "measured")
