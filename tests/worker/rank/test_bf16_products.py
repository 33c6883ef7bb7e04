"""Products of bf16 in fp32: what torch's own give, but for the order of sums, whatever is multiplied."""

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

def operands(dtype):
    torch.manual_seed(0)
    wide, tall, bias = torch.randn(70, 1300), torch.randn(700, 1300), torch.randn(700)
    many, others, added = torch.randn(3, 40, 50), torch.randn(3, 50, 60), torch.randn(3, 1, 60)
    return [one.to(dtype).requires_grad_() for one in (wide, tall, bias, many, others, added)]

def products(wide, tall, bias, many, others, added):
    made = [wide @ tall.T, torch.nn.functional.linear(wide, tall, bias)]
    made += [torch.addmm(bias, wide, tall.T, beta=2, alpha=0.5), many @ others]
    made += [torch.baddbmm(added, many, others, beta=0.5)]
    unseen = bias.detach() * torch.nan
    return [*made, torch.addmm(unseen, wide, tall.T, beta=0), wide[:, :0] @ tall[:, :0].T, wide[:0] @ tall.T]

def results(dtype):
    given = operands(dtype)
    made = products(*given)
    sum(one.sum() for one in made).backward()
    return [*(one.detach() for one in made), *(one.grad for one in given)]

before = {dtype: results(dtype) for dtype in (torch.bfloat16, torch.float32)}
multiply_in_fp32()
multiply_in_fp32()
for one, other in zip(results(torch.bfloat16), before[torch.bfloat16], strict=True):
    assert one.dtype is torch.bfloat16
    torch.testing.assert_close(one, other, rtol=2**-7, atol=2**-5)
for one, other in zip(results(torch.float32), before[torch.float32], strict=True):
    assert torch.equal(one, other)
try:
    torch.zeros(2, 3).bfloat16() @ torch.zeros(2, 3).bfloat16()
except RuntimeError as error:
    assert "cannot be multiplied" in str(error), error
else:
    raise AssertionError("shapes that do not fit were multiplied")
"""


def test_products_and_their_gradients_are_torchs_own() -> None:
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
