"""What the kernels of linear attention and state spaces keep, counted by hand and beside torch's own operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from transformers import BambaConfig, MambaConfig, Qwen3NextConfig

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.outcome import Phase
from autofit.domain.trace import MicroStep, Trace
from autofit.worker.model.kernel_packages import KERNEL_FUNCTIONS
from autofit.worker.trace import scan_kernels, scan_stand_ins
from autofit.worker.trace.ledger import Ledger
from autofit.worker.trace.micro_step_trace import trace
from tests.models.families import tiny_config

BATCH, TOKENS, HEADS, SIZE, STATES = 2, 128, 4, 32, 16
CHANNELS = HEADS * SIZE


def made(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, requires_grad=True)


def scan() -> Any:
    wide, narrow = (BATCH, CHANNELS, TOKENS), (BATCH, STATES, TOKENS)
    a = made(CHANNELS, STATES, dtype=torch.float32)
    return scan_kernels.selective_scan(made(*wide), made(*wide), a, made(*narrow), made(*narrow), z=made(*wide))


def chunks() -> Any:
    values, grouped = made(BATCH, TOKENS, HEADS, SIZE), (BATCH, TOKENS, 1, STATES)
    a = made(HEADS, dtype=torch.float32)
    return scan_kernels.chunk_scan(values, made(BATCH, TOKENS, HEADS), a, made(*grouped), made(*grouped), 64)


def delta() -> Any:
    values, gates = (BATCH, TOKENS, HEADS, SIZE), made(BATCH, TOKENS, HEADS, dtype=torch.float32)
    inputs = [made(*values).clone(), made(*values).clone(), made(*values)]
    return scan_kernels.chunk_gated_delta_rule(*inputs, gates, gates, use_qk_l2norm_in_kernel=True)[0]


def convolution() -> Any:
    return scan_kernels.causal_conv(made(BATCH, CHANNELS, TOKENS), made(CHANNELS, 4), None, activation="silu")


WIDE_BYTES = 2 * BATCH * TOKENS * CHANNELS
NUMBER_BYTES = 4 * BATCH * TOKENS * HEADS  # one fp32 number for each token and head


@pytest.mark.parametrize(
    ("run", "kept_bytes"),
    [
        # selective_scan: what comes before the gate, and one state of two fp32 numbers for up to 2048 tokens
        (scan, WIDE_BYTES + 4 * BATCH * CHANNELS * 2 * STATES),
        (chunks, NUMBER_BYTES),  # mamba_chunk_scan_combined: sums of A·dt
        # chunk_gated_delta_rule: normed queries and keys, sums of the gates, a triangle of 64 for each token and head
        (delta, 2 * WIDE_BYTES + NUMBER_BYTES + 2 * BATCH * TOKENS * HEADS * 64),
        (convolution, 0),
    ],
)
def test_what_is_kept_beside_inputs_and_result(run: Callable[[], Any], kept_bytes: int) -> None:
    ledger = Ledger(DeviceKind.CUDA)
    with FakeTensorMode(), ledger:
        ledger.enter(Phase.FORWARD)
        before_bytes = ledger._live_bytes
        out = run()
        held_bytes = ledger._live_bytes - before_bytes
        inputs_bytes = {scan: 3 * WIDE_BYTES + 4 * CHANNELS * STATES + 2 * 2 * BATCH * STATES * TOKENS,
                        chunks: WIDE_BYTES + 2 * BATCH * TOKENS * (HEADS + 2 * STATES) + 512,
                        delta: 3 * WIDE_BYTES + NUMBER_BYTES,  # without the clones, whose normed copies stay
                        convolution: WIDE_BYTES + 2 * CHANNELS * 4}[run]  # fmt: skip
        assert held_bytes == inputs_bytes + WIDE_BYTES + kept_bytes
        out.float().sum().backward()


MAMBA = MambaConfig(num_hidden_layers=2, hidden_size=128, vocab_size=500)
BAMBA = BambaConfig(
    num_hidden_layers=3, hidden_size=128, num_attention_heads=4, num_key_value_heads=2, intermediate_size=192,
    attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=64, mamba_d_state=32, mamba_chunk_size=64, vocab_size=500,
)  # fmt: skip


DELTA = Qwen3NextConfig(
    num_hidden_layers=3, hidden_size=128, vocab_size=500, num_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=64, shared_expert_intermediate_size=64, num_attention_heads=4, num_key_value_heads=2,
    head_dim=32, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=32, linear_value_head_dim=48,
)  # fmt: skip
CONFIGS: dict[str, Any] = {
    "mamba": MAMBA, "bamba": BAMBA, "qwen3_next": DELTA, "kimi_linear": tiny_config("kimi_linear"),
}  # fmt: skip


def traced(config: Any, packages: tuple[str, ...] = (), dtype: Dtype = Dtype.BF16) -> Trace:
    return trace(
        config,
        MicroStep(
            None,
            Attention.EAGER,
            GradientCheckpointing.OFF,
            dtype,
            DeviceKind.CUDA,
            2,
            150,
            False,
            kernel_packages=packages,
        ),
    )


def peaks(said: Trace) -> list[int]:
    return [moment.activations_bytes for moment in said.moments]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("mamba", Dtype.BF16),
        pytest.param("mamba", Dtype.FP32, marks=pytest.mark.slow),
        ("qwen3_next", Dtype.BF16),
        pytest.param("kimi_linear", Dtype.BF16, marks=pytest.mark.slow),
    ],
)
def test_a_loop_in_one_is_what_its_steps_are(name: str, dtype: Dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS[name]
    whole = traced(config, dtype=dtype)
    monkeypatch.setattr(scan_stand_ins, "WITHOUT_PACKAGE", {})
    steps = traced(config, dtype=dtype)
    assert max(peaks(whole)) == pytest.approx(max(peaks(steps)), rel=0.01)
    assert peaks(whole) == pytest.approx(peaks(steps), rel=0.05)


@pytest.mark.parametrize("name", ["mamba", "bamba", "qwen3_next"])
def test_with_its_package_a_scan_holds_far_less(name: str) -> None:
    config = CONFIGS[name]
    plain, with_packages = traced(config), traced(config, tuple(KERNEL_FUNCTIONS))
    last_layer = config.num_hidden_layers  # the loss of so small a model hides its layers
    assert peaks(with_packages)[last_layer] < peaks(plain)[last_layer] / 2
    assert with_packages.parameters == plain.parameters
    assert [moment.gradient_count for moment in with_packages.moments] == [
        moment.gradient_count for moment in plain.moments
    ]
