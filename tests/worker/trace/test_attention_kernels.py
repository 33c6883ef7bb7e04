"""Which attention kernels a model's class is traced with, what they keep, and what is said where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
import transformers.modeling_flash_attention_utils as flash_utils
import trl.trainer.utils
from torch._subclasses import FakeTensorMode
from transformers import PretrainedConfig

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import ATTENTION, Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.outcome import Phase
from autofit.domain.trace import MicroStep, SdpaKernel, Trace
from autofit.worker.model.support import lacking
from autofit.worker.model.unbuildable import BuildRefused
from autofit.worker.trace.device_kernels import kernels_of
from autofit.worker.trace.fake_model import make_fake, meta_model, prepare
from autofit.worker.trace.flash_attention import flash_attention
from autofit.worker.trace.micro_step_trace import trace
from tests.worker.trace.test_micro_step_trace import VOCABULARY, RealStep, allocated_bytes

ROWS, TOKENS, LAYERS, HIDDEN, HEADS = 2, 48, 2, 64, 4
CPU = MicroStep(None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CPU, ROWS, TOKENS, False)
CUDA = replace(CPU, kind=DeviceKind.CUDA)
FLASH_2, SDPA, EAGER, FLEX = (replace(CUDA, attention=attention) for attention in Attention)

_SIZES = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "vocab_size": VOCABULARY}
_GPT = {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": VOCABULARY}
_BLOOM = {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "vocab_size": VOCABULARY}
_MPT = {"d_model": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "vocab_size": VOCABULARY, "max_seq_len": 64}
_XGLM = {"d_model": HIDDEN, "num_layers": LAYERS, "attention_heads": HEADS, "ffn_dim": 96, "vocab_size": VOCABULARY}
_NEO = {"hidden_size": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS, "vocab_size": VOCABULARY, "window_size": 16}
_GROUPED = _SIZES | {"num_key_value_heads": 2, "intermediate_size": 96}
_WINDOW = _GROUPED | {"sliding_window": 16}
_LATENT = _SIZES | {"num_key_value_heads": HEADS, "intermediate_size": 96, "q_lora_rank": 24, "kv_lora_rank": 16}
_LATENT |= {"qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}
_ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1}
_DEEPSEEK = _LATENT | _ROUTED | {"first_k_dense_replace": 1}
_STATE = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 16}

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon, one key head": ("FalconConfig", _SIZES | {"multi_query": True}),
    "falcon, all key heads": ("FalconConfig", _SIZES | {"multi_query": False}),
    "falcon, new": ("FalconConfig", _SIZES | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, alibi": ("FalconConfig", _SIZES | {"multi_query": False, "alibi": True}),
    "gpt-j": ("GPTJConfig", _GPT | {"rotary_dim": 8}),
    "gpt-neo": ("GPTNeoConfig", _NEO | {"attention_types": [[["global", "local"], LAYERS // 2]]}),
    "codegen": ("CodeGenConfig", _GPT | {"rotary_dim": 8}),
    "bloom": ("BloomConfig", _BLOOM),
    "mpt": ("MptConfig", _MPT),
    "gpt-bigcode": ("GPTBigCodeConfig", _GPT),
    "opt, narrow embedding": ("OPTConfig", _SIZES | {"ffn_dim": 96, "word_embed_proj_dim": 32}),
    "xglm": ("XGLMConfig", _XGLM),
    "deepseek-v2": ("DeepseekV2Config", _DEEPSEEK),
    "deepseek-v3": ("DeepseekV3Config", _DEEPSEEK),
    "minicpm3": ("MiniCPM3Config", _LATENT),
    "gemma-2": ("Gemma2Config", _WINDOW | {"head_dim": 24}),
    "gemma-3": ("Gemma3TextConfig", _WINDOW | {"head_dim": 24}),
    "gpt-oss": ("GptOssConfig", _WINDOW | {"head_dim": 24, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "cohere": ("CohereConfig", _GROUPED),
    "phi-3": ("Phi3Config", _GROUPED | {"pad_token_id": 0, "eos_token_id": 0}),
    "mistral": ("MistralConfig", _WINDOW),
    "heads of 20": ("LlamaConfig", _GROUPED | {"head_dim": 20}),
    "heads of 512": ("LlamaConfig", _GROUPED | {"head_dim": 512}),
    "bamba": ("BambaConfig", _GROUPED | _STATE | {"attn_layer_indices": [1]}),
}
LACKS_FLASH = {"falcon, alibi", "codegen", "bloom", "mpt", "xglm", "gpt-oss", "heads of 512"}
LACKS_SDPA = {"gpt-j", "gpt-neo", "codegen", "bloom", "mpt", "xglm", "gemma-2", "gpt-oss"}
OWN_ATTENTION = ("falcon, one key head", "falcon, all key heads", "falcon, new", "gpt-j", "gpt-neo")
NARROW_VALUES = ("deepseek-v2", "deepseek-v3", "minicpm3")


def config_of(name: str) -> PretrainedConfig:
    config_class, settings = SHAPES[name]
    config: PretrainedConfig = getattr(transformers, config_class)(**settings)
    return config


def peak_bytes(traced: Trace) -> int:
    """The peak of the training, without the evaluation."""
    return max(moment.activations_bytes for moment in traced.moments[:-1])


# --- What there is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*OWN_ATTENTION, *NARROW_VALUES, "gemma-2", "heads of 20"])
def test_flash_attention_2_is_traced(name: str) -> None:
    padded = trace(config_of(name), replace(FLASH_2, is_padded=True))
    assert peak_bytes(padded) > 0
    assert padded.sdpa_kernels == ()


@pytest.mark.parametrize("name", [*NARROW_VALUES, "heads of 20"])
def test_sdpa_is_traced_on_a_gpu(name: str) -> None:
    expected = SdpaKernel.MATH if name == "heads of 20" else SdpaKernel.EFFICIENT  # which wants multiples of 8
    assert trace(config_of(name), replace(SDPA, is_padded=True)).sdpa_kernels == (expected,)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_every_class_is_traced_with_every_kernel_that_it_supports(name: str) -> None:
    is_lacking = {Attention.FLASH_2: name in LACKS_FLASH, Attention.SDPA: name in LACKS_SDPA}
    kernels = [one for one in (Attention.FLASH_2, Attention.SDPA, Attention.EAGER) if not is_lacking.get(one)]
    for is_padded in (False, True):
        for attention in kernels:
            step = replace(CUDA, attention=attention, is_padded=is_padded)
            assert peak_bytes(trace(config_of(name), step)) > 0
            if attention is not Attention.FLASH_2:
                assert peak_bytes(trace(config_of(name), replace(step, kind=DeviceKind.CPU))) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("falcon, new", Attention.SDPA),
        ("falcon, alibi", Attention.EAGER),
        ("gpt-neo", Attention.EAGER),
        ("mpt", Attention.EAGER),
        ("deepseek-v3", Attention.SDPA),
        ("gpt-oss", Attention.EAGER),
        ("heads of 20", Attention.SDPA),
        ("bamba", Attention.SDPA),
    ],
)
def test_the_allocators_peak(name: str, attention: Attention, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", 256)  # else the loss hides the layers
    step = replace(CPU, attention=attention, is_padded=True)
    real = RealStep(config_of(name), step)
    real.model.train()
    real.warm_up()
    assert peak_bytes(trace(config_of(name), step)) == pytest.approx(allocated_bytes(real.train), rel=2e-3)


def test_layers_with_a_window_compute_less() -> None:
    """A window of 16 of 48 tokens: each query meets 16 keys, the first 15 fewer."""
    windowed, full = (
        trace(transformers.MistralConfig(**{**_WINDOW, "sliding_window": window}), FLASH_2) for window in (16, None)
    )
    forward_flop = [
        sum(moment.work.matmul_flop for moment in traced.moments if moment.phase is Phase.FORWARD)
        for traced in (windowed, full)
    ]
    met, of_all = 16 * TOKENS - 16**2 // 2, TOKENS**2 // 2
    assert forward_flop[1] - forward_flop[0] == LAYERS * 2 * 2 * ROWS * HIDDEN * (of_all - met)


# --- What FlashAttention-2 keeps --------------------------------------------------------------------------------------


def kept_bytes(name: str, step: MicroStep) -> list[int]:
    """What the first kernel's call keeps for its backward pass: query, key, value, output, sums of the softmax."""
    mode = FakeTensorMode()
    with kernels_of(step):
        model = prepare(meta_model(config_of(name), step), step)
        make_fake(model, mode)
        with mode:
            ids = torch.ones((ROWS, TOKENS), dtype=torch.int64)
            logits = model(input_ids=ids, attention_mask=ids, use_cache=False).logits
    nodes, seen = [logits.grad_fn], set()
    kernel = None
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kernel = node if node.name() == "FlashAttentionBackward0" else kernel
        nodes += [following for following, _ in node.next_functions]
    assert kernel is not None
    names = ("query", "key", "value", "output", "softmax_logsumexp")
    saved = [getattr(kernel, f"_saved_{name}") for name in names]
    return [tensor.numel() * tensor.element_size() for tensor in saved]


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize(
    ("name", "head_size", "key_heads"),
    [
        ("falcon, one key head", 16, 1),
        ("deepseek-v3", 16 + 8, HEADS),  # a value of 16 is padded to the size of the query
        ("heads of 20", 24, 2),  # padded to a multiple of 8
    ],
)
def test_what_the_kernel_keeps_is_that_of_the_package(
    name: str, head_size: int, key_heads: int, is_padded: bool
) -> None:
    of_a_head = ROWS * TOKENS * head_size * 2
    queries, keys, sums = HEADS * of_a_head, key_heads * of_a_head, ROWS * TOKENS * HEADS * 4
    assert kept_bytes(name, replace(FLASH_2, is_padded=is_padded)) == [queries, keys, keys, queries, sums]


@pytest.mark.parametrize(("name", "is_more"), [("heads of 20", True), ("phi-3", False)])
def test_taking_padding_out_copies_what_attention_works_on(name: str, is_more: bool) -> None:
    """The copies cost a second output and the tokens' indices in each layer; but where queries, keys and values are
    views of one product, they set that free."""
    whole, padded = (trace(config_of(name), replace(FLASH_2, is_padded=flag)) for flag in (False, True))
    assert (peak_bytes(padded) > peak_bytes(whole)) is is_more


def test_what_stands_for_the_package_goes_again() -> None:
    before = dict(vars(flash_utils))
    with flash_attention(is_padded=True):
        assert flash_utils._lazy_imports is not before["_lazy_imports"]
    after = vars(flash_utils)
    for name in ("_lazy_imports", "_get_unpad_data", "_is_packed_sequence", "_loaded_implementation"):
        assert after[name] is before[name]
    check = flash_utils.FLASH_ATTENTION_COMPATIBILITY_MATRIX[2]["general_availability_check"]
    assert check is flash_utils.is_flash_attn_2_available


# --- What there is not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "step", "words"),
    [
        ("heads of 512", FLASH_2, "FlashAttention-2 takes heads of at most 256, this model's have 512"),
        ("codegen", FLASH_2, "CodeGenForCausalLM does not support Flash Attention 2"),
        ("gemma-2", SDPA, "Gemma2ForCausalLM does not support an attention implementation"),
        ("gpt-oss", FLASH_2, "its flash attention is kernels-community/vllm-flash-attn3, not FlashAttention-2"),
        ("cohere", replace(FLASH_2, dtype=Dtype.FP32), "FlashAttention-2 needs a GPU and half precision"),
        ("cohere", replace(FLASH_2, kind=DeviceKind.CPU), "FlashAttention-2 needs a GPU and half precision"),
    ],
)
def test_a_kernel_that_is_not_there_is_named(name: str, step: MicroStep, words: str) -> None:
    with pytest.raises(BuildRefused, match=words):
        trace(config_of(name), step)


@pytest.mark.parametrize(("attention", "expected"), [(Attention.FLASH_2, LACKS_FLASH), (Attention.SDPA, LACKS_SDPA)])
def test_what_is_known_of_a_class_beforehand_is_what_its_trace_comes_to(
    attention: Attention, expected: set[str]
) -> None:
    word = ATTENTION.of(attention).word
    lacks = {name for name in SHAPES if any(one.word == word for one in lacking(meta_model(config_of(name), EAGER)))}
    assert lacks == expected


@pytest.mark.parametrize("name", ["gemma-2", "deepseek-v3", "cohere"])
def test_flex_attention_holds_less_than_eager_and_no_mask(name: str) -> None:
    flex = [peak_bytes(trace(config_of(name), replace(FLEX, is_padded=is_padded))) for is_padded in (False, True)]
    assert flex[0] == flex[1] < peak_bytes(trace(config_of(name), EAGER))
