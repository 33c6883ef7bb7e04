"""Chance in a weight's last place: right on the average, the same for the same seed, and never a number for none."""

from __future__ import annotations

import struct

import torch

from autofit.worker.fused_update.rounding import StochasticRounding

ULP = 2.0**-7  # of bf16 from 1 to 2


def written(values: torch.Tensor, *key: int, seed: int = 0) -> torch.Tensor:
    weights = torch.zeros_like(values, dtype=torch.bfloat16)
    StochasticRounding(seed).write(weights, values, *key)
    return weights


def test_a_value_between_two_is_either_and_their_mean_is_it() -> None:
    values = torch.full((100_000,), 1.0 + ULP / 4)
    found = written(values, 1).float()
    assert set(found.tolist()) == {1.0, 1.0 + ULP}
    assert abs(float(found.double().mean()) - (1.0 + ULP / 4)) < ULP / 100
    assert torch.equal(written(-values, 1).float(), -found)


def test_a_value_that_a_weight_can_be_is_not_changed() -> None:
    values = torch.tensor([0.0, -0.0, 1.0, -2.5, 1e-40, 3e38]).bfloat16().float()
    assert torch.equal(written(values, 1).float(), values)


def test_the_same_write_draws_the_same_and_another_one_does_not() -> None:
    values = torch.full((1000,), 1.0 + ULP / 2)
    assert torch.equal(written(values, 3, 7), written(values, 3, 7))
    others = [written(values, 3, 8), written(values, 4, 7), written(values, 3, 7, seed=1)]
    assert not any(torch.equal(written(values, 3, 7), other) for other in others)


def test_what_is_no_number_stays_none() -> None:
    """All bits set is a GPU's NaN; one bit more, and it is a zero."""
    (of_a_gpu,) = struct.unpack("<i", struct.pack("<I", 0x7FFFFFFF))
    nan = torch.tensor([of_a_gpu, -1], dtype=torch.int32).view(torch.float32)
    assert nan.isnan().all()
    assert written(nan, 1).isnan().all()
    infinite = torch.tensor([torch.inf, -torch.inf])
    assert torch.equal(written(infinite, 1).float(), infinite)


def test_fp32_weights_are_written_as_they_are() -> None:
    weights, values = torch.zeros(3), torch.tensor([1.1, 2.2, 3.3])
    StochasticRounding(0).write(weights, values, 1)
    assert torch.equal(weights, values)
