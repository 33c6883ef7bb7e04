"""Products of bf16 in fp32: each is the exact one, rounded once, whatever is multiplied; others are torch's own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.strategy import Strategy
from autofit.probing.protocol import Job
from autofit.worker.rank import bf16_products
from tests.builders import make_request, make_rung

# In a process of its own: what is overridden stays so.
_CHECK = """
import torch
from autofit.worker.rank.bf16_products import multiply_in_fp32

torch.manual_seed(0)
WIDE, TALL, BIAS = torch.randn(70, 1300), torch.randn(700, 1300), torch.randn(700)
MANY, OTHERS, ADDED = torch.randn(3, 40, 50), torch.randn(3, 50, 60), torch.randn(3, 1, 60)
PRODUCTS = [
    (lambda left, right: left @ right.T, WIDE, TALL),
    (torch.nn.functional.linear, WIDE, TALL, BIAS),
    (lambda added, left, right: torch.addmm(added, left, right.T, beta=2, alpha=0.5), BIAS, WIDE, TALL),
    (lambda added, left, right: torch.addmm(added.detach() * torch.nan, left, right.T, beta=0), BIAS, WIDE, TALL),
    (lambda left, right: left @ right, MANY, OTHERS),
    (lambda added, left, right: torch.baddbmm(added, left, right, beta=0.5), ADDED, MANY, OTHERS),
    (lambda left, right: left[:, :0] @ right[:, :0].T, WIDE, TALL),
    (lambda left, right: left[:0] @ right.T, WIDE, TALL),
]

def results(dtype, product, *operands):
    given = [one.bfloat16().to(dtype).requires_grad_() for one in operands]
    made = product(*given)
    made.sum().backward()
    return [made.detach(), *(one.grad for one in given if one.grad is not None)]

before = [results(torch.float32, *one) for one in PRODUCTS]
multiply_in_fp32()
multiply_in_fp32()
for one, own in zip(PRODUCTS, before, strict=True):
    exact = results(torch.float64, *one)
    for found, right in zip(results(torch.bfloat16, *one), exact, strict=True):
        assert found.dtype is torch.bfloat16
        torch.testing.assert_close(found.double(), right, rtol=2**-8, atol=1e-4)  # rounded once
    assert all(map(torch.equal, results(torch.float32, *one), own))
try:
    torch.zeros(2, 3).bfloat16() @ torch.zeros(2, 3).bfloat16()
except RuntimeError as error:
    assert "cannot be multiplied" in str(error), error
else:
    raise AssertionError("shapes that do not fit were multiplied")
"""


def test_products_and_their_gradients_are_exact_but_for_one_rounding() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", _CHECK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "dtype", "is_supported", "is_overridden"),
    [
        (DeviceKind.CPU, Dtype.BF16, False, True),
        (DeviceKind.CPU, Dtype.BF16, True, False),
        (DeviceKind.CPU, Dtype.FP32, False, False),
        (DeviceKind.CUDA, Dtype.BF16, False, False),
    ],
)
def test_only_a_cpu_without_instructions_for_bf16_needs_it(
    kind: DeviceKind, dtype: Dtype, is_supported: bool, is_overridden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[bool] = []
    monkeypatch.setattr(bf16_products, "multiply_in_fp32", lambda: called.append(True))
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: is_supported)
    strategy = Strategy(make_rung(2, dtype=dtype), 1, 1)
    bf16_products.prepare_products(Job(make_request("model", 64), strategy, "{}", kind, 2))
    assert bool(called) is is_overridden


def test_blocks_stay_small_whatever_the_length() -> None:
    for count, length in ((70_000, 4), (3, 10_000_000), (1000, 512), (7, 0)):
        blocks = list(bf16_products._blocks(count, length))
        assert [blocks[0].start, blocks[-1].stop] == [0, count]
        assert all((one.stop - one.start) * length <= max(bf16_products.BLOCK_ELEMENTS, length) for one in blocks)
        assert all(one.stop - one.start <= 512 for one in blocks)
