"""A trace of a few layers against one of all, for decoders whose layers repeat in odd ways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trl.trainer.utils
from transformers import (
    BambaConfig,
    DeepseekV3Config,
    Gemma3Config,
    Gemma3nTextConfig,
    GptOssConfig,
    JambaConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen3MoeConfig,
    Zamba2Config,
)

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.request import Lora
from autofit.domain.trace import MicroStep
from autofit.worker.model.decoder import decoder_layers
from autofit.worker.model.kernel_packages import KERNEL_FUNCTIONS
from autofit.worker.trace.depth import choose_depth
from autofit.worker.trace.fake_model import meta_model, prepare
from autofit.worker.trace.layer_marks import layer_marks
from autofit.worker.trace.micro_step_trace import trace

_SIZES: dict[str, Any] = {
    "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500, "intermediate_size": 96,
}  # fmt: skip
_LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 8}
_MAMBA_2 = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16, "mamba_chunk_size": 32}
_ZAMBA = ["mamba"] * 2 + (["hybrid"] + ["mamba"] * 2) * 5 + ["hybrid"]
CONFIGS: dict[str, PretrainedConfig] = {
    "dense, then experts": DeepseekV3Config(
        **_SIZES | _LATENT | {"num_key_value_heads": 4},
        num_hidden_layers=9, first_k_dense_replace=2, n_routed_experts=8, moe_intermediate_size=32, n_group=2,
        topk_group=1, num_experts_per_tok=2,
    ),
    "router's loss": Qwen3MoeConfig(
        **_SIZES, num_hidden_layers=8, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16,
        mlp_only_layers=[0, 7],
    ),
    "router's loss, by twos": GptOssConfig(
        **_SIZES, num_hidden_layers=9, num_local_experts=4, num_experts_per_tok=2, head_dim=16, sliding_window=32
    ),
    "late attention": BambaConfig(**_SIZES | _MAMBA_2, num_hidden_layers=14, attn_layer_indices=[4, 7, 10, 13]),
    "state spaces with experts": JambaConfig(
        **_SIZES, num_hidden_layers=18, num_experts=4, attn_layer_period=4, attn_layer_offset=2, expert_layer_period=2,
        expert_layer_offset=1, mamba_d_state=8, mamba_dt_rank=8,
    ),
    "a shared block": Zamba2Config(
        **_SIZES | {"num_key_value_heads": 4}, num_hidden_layers=18, layers_block_type=_ZAMBA, mamba_d_state=16,
        n_mamba_heads=4, mamba_expand=2, chunk_size=32, num_mem_blocks=1, use_shared_attention_adapter=True,
    ),
    "a longer vision tower": Gemma3Config(
        text_config=_SIZES | {"num_hidden_layers": 9, "head_dim": 16, "sliding_window": 32},
        vision_config={"num_hidden_layers": 12, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    ),
    "shared keys and values": Gemma3nTextConfig(
        **_SIZES, num_hidden_layers=13, num_kv_shared_layers=3, head_dim=16, vocab_size_per_layer_input=500,
        hidden_size_per_layer_input=16, activation_sparsity_pattern=[0.0] * 13, laurel_rank=8,
        layer_types=["sliding_attention", "full_attention"] * 6 + ["sliding_attention"],
    ),
    "plain": LlamaConfig(**_SIZES, num_hidden_layers=12),
}  # fmt: skip
STEP = MicroStep(None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CUDA, 2, 96, True)
OFFLOAD, EVERY_2 = GradientCheckpointing.OFFLOAD, GradientCheckpointing.EVERY_2
EAGER = replace(STEP, attention=Attention.EAGER)
CHECKPOINTED = replace(STEP, lora=Lora(4, 8, ("q_proj", "v_proj")), gradient_checkpointing=GradientCheckpointing.ON)
LATE = Lora(4, 8, ("8.self_attn.q_proj", "9.self_attn.q_proj", "10.self_attn.q_proj"))


@pytest.fixture(autouse=True)
def _narrow_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of such small models would hide their layers: it works on tiles of 32768 columns."""
    monkeypatch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", 128)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("dense, then experts", STEP),
        ("router's loss", STEP),
        pytest.param("router's loss", CHECKPOINTED, marks=pytest.mark.slow),
        pytest.param("router's loss, by twos", EAGER, marks=pytest.mark.slow),
        ("late attention", replace(STEP, lora=Lora(4, 8, ("q_proj",)))),
        pytest.param("late attention", replace(STEP, kernel_packages=tuple(KERNEL_FUNCTIONS)), marks=pytest.mark.slow),
        pytest.param(
            "state spaces with experts", replace(STEP, kernel_packages=tuple(KERNEL_FUNCTIONS)), marks=pytest.mark.slow
        ),
        pytest.param("a shared block", STEP, marks=pytest.mark.slow),
        pytest.param("a longer vision tower", STEP, marks=pytest.mark.slow),
        pytest.param("a longer vision tower", CHECKPOINTED, marks=pytest.mark.slow),
        pytest.param("shared keys and values", STEP, marks=pytest.mark.slow),
        ("plain", replace(STEP, lora=LATE)),
        ("plain", replace(STEP, gradient_checkpointing=EVERY_2)),
        ("plain", replace(STEP, gradient_checkpointing=GradientCheckpointing.SELECTIVE)),
        pytest.param("plain", replace(CHECKPOINTED, gradient_checkpointing=OFFLOAD), marks=pytest.mark.slow),
        pytest.param("router's loss", replace(CHECKPOINTED, gradient_checkpointing=EVERY_2), marks=pytest.mark.slow),
        pytest.param("plain", replace(CHECKPOINTED, lora=LATE), marks=pytest.mark.slow),
    ],
)
def test_a_few_layers_say_what_all_say(name: str, step: MicroStep) -> None:
    config = CONFIGS[name]
    model = prepare(meta_model(config, step), step)
    assert choose_depth(layer_marks(list(decoder_layers(model)), config)).left_out > 0
    short, full = trace(config, step), trace(config, step, at_full_depth=True)
    assert [moment.work for moment in short.moments] == [moment.work for moment in full.moments]
    assert [moment.gradient_count for moment in short.moments] == [moment.gradient_count for moment in full.moments]
    assert [moment.activations_bytes for moment in short.moments] == pytest.approx(
        [moment.activations_bytes for moment in full.moments], rel=1e-3
    )
    assert short == replace(full, moments=short.moments)


def test_parameters_that_layers_share_count_once() -> None:
    config = CONFIGS["a shared block"]
    traced = trace(config, STEP)
    assert traced.parameter_count == sum(one.numel() for one in meta_model(config, STEP).parameters())
    assert traced.moments[-2].gradient_count == traced.trained_count


def test_the_decoders_layers_are_those_of_the_text() -> None:
    layers = decoder_layers(meta_model(CONFIGS["a longer vision tower"], STEP))
    assert len(layers) == 9
