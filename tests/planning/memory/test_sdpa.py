"""Which kernel torch's own attention runs, by what torch's sources say of each GPU."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.trace import SdpaKernel
from autofit.planning.memory.sdpa import ASSUMED, PREFERRED_CUDNN, Capability, SdpaCall, sdpa_kernel, with_same_rules

CUDNN, FLASH, EFFICIENT, MATH = SdpaKernel.CUDNN, SdpaKernel.FLASH, SdpaKernel.EFFICIENT, SdpaKernel.MATH
BF16 = SdpaCall(Dtype.BF16, 128, 128)
FP16, FP32 = replace(BF16, dtype=Dtype.FP16), replace(BF16, dtype=Dtype.FP32)
V100, T4, A100, L40S, H100, B200, RTX_5090 = (7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0)


def masked(call: SdpaCall) -> SdpaCall:
    return replace(call, has_mask=True)


def grouped(call: SdpaCall) -> SdpaCall:
    return replace(call, is_grouped=True)


def sized(query_size: int, value_size: int | None = None) -> SdpaCall:
    return replace(BF16, query_size=query_size, value_size=value_size or query_size)


@pytest.mark.parametrize(
    ("capability", "call", "expected"),
    [
        (H100, BF16, CUDNN),
        (H100, masked(BF16), CUDNN),
        (H100, grouped(BF16), CUDNN),
        (H100, FP32, EFFICIENT),
        (H100, sized(256), CUDNN),
        (H100, sized(100), FLASH),
        (H100, masked(sized(100)), MATH),
        (H100, sized(192, 128), CUDNN),
        (B200, masked(BF16), CUDNN),
        (B200, sized(192, 128), CUDNN),
        (B200, sized(192), FLASH),
        (B200, masked(sized(256)), EFFICIENT),
        (A100, BF16, FLASH),
        (A100, grouped(BF16), FLASH),
        (A100, sized(100), FLASH),
        (A100, masked(BF16), EFFICIENT),
        (A100, sized(192, 128), EFFICIENT),
        (A100, sized(320), EFFICIENT),
        (A100, FP32, EFFICIENT),
        (A100, grouped(FP32), MATH),
        (A100, sized(256), FLASH),
        (L40S, sized(192), FLASH),
        (L40S, sized(224), EFFICIENT),
        (L40S, replace(sized(224), is_trained=False), FLASH),
        (L40S, sized(256), FLASH),
        (RTX_5090, replace(sized(256), has_dropout=True), EFFICIENT),
        (RTX_5090, BF16, FLASH),
        (V100, FP16, EFFICIENT),
        (V100, masked(FP16), EFFICIENT),
        (T4, grouped(FP16), MATH),
        (T4, BF16, MATH),
        (T4, replace(FP32, query_size=90, value_size=90), EFFICIENT),
        ((13, 0), BF16, MATH),
    ],
)
def test_the_kernel_by_capability_and_call(capability: Capability, call: SdpaCall, expected: SdpaKernel) -> None:
    assert sdpa_kernel(call, capability, PREFERRED_CUDNN) is expected


def test_an_older_cudnn_is_not_preferred() -> None:
    assert sdpa_kernel(BF16, H100, 91002) is FLASH
    assert sdpa_kernel(masked(BF16), H100, 91002) is EFFICIENT


def test_fewer_heads_of_which_torch_is_not_told_fit_no_fused_kernel() -> None:
    call = replace(BF16, is_broadcast=True)
    assert {sdpa_kernel(call, capability, PREFERRED_CUDNN) for capability in (V100, A100, H100)} == {MATH}


def test_gpus_that_share_traces_have_the_same_rules() -> None:
    sizes = (64, 90, 100, 128, 192, 208, 256, 320)
    calls = [
        SdpaCall(dtype, query_size, value_size, *flags)
        for dtype, query_size, value_size in product(Dtype, sizes, sizes)
        for flags in product((False, True), repeat=5)
    ]
    for capability in ((6, 1), V100, T4, A100, (8, 6), L40S, H100, B200, (10, 3), (11, 0), RTX_5090, (12, 1)):
        shared = with_same_rules(capability)
        for call in calls:
            own, other = (sdpa_kernel(call, one, PREFERRED_CUDNN) for one in (capability, shared))
            assert own is other, (capability, shared, call)


def test_of_the_usual_gpus_few_kinds_are_traced() -> None:
    assert with_same_rules(L40S) == with_same_rules((8, 6)) == with_same_rules(RTX_5090)
    assert with_same_rules(None) is None
    assert sdpa_kernel(BF16, None, PREFERRED_CUDNN) is sdpa_kernel(BF16, ASSUMED, PREFERRED_CUDNN)
