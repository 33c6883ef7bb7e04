"""Traces against the CPU allocator's own peak, against traces of all layers, and against counting by hand."""

from __future__ import annotations

import contextlib
import copy
import itertools
import time
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import trl.trainer.utils
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    FalconConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)
from trl.kernels import chunked_logprob

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.outcome import Phase
from autofit.domain.request import Lora
from autofit.domain.trace import MicroStep, Moment, SdpaKernel, Trace
from autofit.probing.protocol import Refused, TraceModel
from autofit.worker.agent.trace_process import traced
from autofit.worker.trace import micro_step_run, micro_step_trace
from autofit.worker.trace.micro_step_trace import trace
from tests.builders import make_request
from tests.worker.trace.real_step import PLAIN, RANDOM_STATE_BYTES, RealStep, allocated_bytes, peak_bytes

LAYERS = 5
VOCABULARY = 1000
_SIZES = {"hidden_size": 128, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "vocab_size": VOCABULARY}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "intermediate_size": 320}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_GROUPED),
    "mistral": MistralConfig(**_GROUPED, sliding_window=64),
    "qwen2": Qwen2Config(**_GROUPED, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**_GROUPED, head_dim=32),
    "gemma": GemmaConfig(**_GROUPED, head_dim=32),
    "gemma2": Gemma2Config(**(_GROUPED | {"num_hidden_layers": 8}), head_dim=32, sliding_window=64),
    "phi": PhiConfig(**_SIZES, intermediate_size=512),
    "gpt_neox": GPTNeoXConfig(**_SIZES, intermediate_size=512),
    "gpt2": GPT2Config(n_embd=128, n_layer=LAYERS, n_head=4, vocab_size=VOCABULARY),
    "falcon": FalconConfig(**_SIZES, multi_query=True),
    "opt": OPTConfig(**_SIZES, ffn_dim=512, word_embed_proj_dim=128),
    "mixtral": MixtralConfig(**_GROUPED, num_local_experts=4),
    "qwen2_moe": Qwen2MoeConfig(
        **_GROUPED, moe_intermediate_size=96, shared_expert_intermediate_size=96, num_experts=8
    ),
    "qwen3_moe": Qwen3MoeConfig(**_GROUPED, moe_intermediate_size=96, num_experts=8),
}
_MODULES = {"gpt2": ("c_attn",), "gpt_neox": ("query_key_value",), "falcon": ("query_key_value",)}
CUDA = replace(PLAIN, kind=DeviceKind.CUDA)


def lora(name: str) -> Lora:
    return Lora(8, 16, _MODULES.get(name, ("q_proj", "v_proj")))


@cache
def told(name: str, step: MicroStep) -> Trace:
    """The trace, made once for all tests that ask for it."""
    return trace(CONFIGS[name], step)


@pytest.fixture(autouse=True)
def _narrow_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of such small models would hide their layers: it works on tiles of 32768 columns."""
    monkeypatch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", 256)


# --- The real thing ---------------------------------------------------------------------------------------------------


CASES = [
    ("llama", PLAIN),
    ("llama", replace(PLAIN, is_padded=True)),
    ("llama", replace(PLAIN, lora=lora("llama"), dtype=Dtype.FP32)),
    ("mistral", replace(PLAIN, is_padded=True, lora=lora("mistral"))),
    ("qwen2", replace(PLAIN, attention=Attention.EAGER)),
    ("qwen3", replace(PLAIN, lora=lora("qwen3"))),
    ("gemma", replace(PLAIN, is_padded=True)),
    ("gemma2", replace(PLAIN, attention=Attention.EAGER, lora=lora("gemma2"))),
    ("phi", replace(PLAIN, lora=lora("phi"))),
    ("gpt_neox", replace(PLAIN, attention=Attention.EAGER, lora=lora("gpt_neox"))),
    ("gpt2", replace(PLAIN, lora=lora("gpt2"), is_padded=True)),
    ("falcon", replace(PLAIN, lora=lora("falcon"))),
    ("opt", replace(PLAIN, attention=Attention.EAGER, is_padded=True)),
    ("mixtral", PLAIN),
    ("mixtral", replace(PLAIN, dtype=Dtype.FP32, lora=lora("mixtral"))),
    ("qwen2_moe", replace(PLAIN, lora=lora("qwen2_moe"))),
    ("qwen3_moe", replace(PLAIN, attention=Attention.EAGER)),
]


# One of two is slow together with the others.
@pytest.mark.parametrize(
    ("name", "step"), [pytest.param(*case, marks=pytest.mark.slow if at % 2 else ()) for at, case in enumerate(CASES)]
)
def test_the_allocators_peak(name: str, step: MicroStep) -> None:
    traced, real = told(name, step), RealStep(CONFIGS[name], step)
    real.model.train()
    real.warm_up()
    assert peak_bytes(traced.moments[:-1]) == pytest.approx(allocated_bytes(real.train), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "checkpointing", "is_lora"),
    [
        *product(("llama", "opt", "gpt_neox", "qwen3"), (GradientCheckpointing.ON,), (False, True)),
        ("llama", GradientCheckpointing.EVERY_2, False),
        ("qwen3", GradientCheckpointing.EVERY_2, True),
        ("llama", GradientCheckpointing.SELECTIVE, True),
        ("opt", GradientCheckpointing.SELECTIVE, False),
    ],
)
def test_the_allocators_peak_with_checkpointing(name: str, checkpointing: GradientCheckpointing, is_lora: bool) -> None:
    step = replace(PLAIN, gradient_checkpointing=checkpointing, lora=lora(name) if is_lora else None)
    traced, real = told(name, step), RealStep(CONFIGS[name], step)
    real.model.train()
    real.warm_up()
    expected_bytes = allocated_bytes(real.train) - RANDOM_STATE_BYTES * round(LAYERS * checkpointing.share)
    assert peak_bytes(traced.moments[:-1]) == pytest.approx(expected_bytes, rel=5e-3)


QUANTIZED = [
    ("llama", Quantization.NF4, False),
    ("llama", Quantization.INT8, True),
    ("gpt2", Quantization.NF4, False),
    ("gpt_neox", Quantization.INT8, False),
    ("phi", Quantization.NF4, False),
]


@pytest.mark.parametrize(
    ("name", "quantization", "is_checkpointed"),
    [pytest.param(*case, marks=pytest.mark.slow if at else ()) for at, case in enumerate(QUANTIZED)],
)
def test_the_allocators_peak_with_a_quantised_base(
    name: str, quantization: Quantization, is_checkpointed: bool
) -> None:
    """What bitsandbytes' own layers keep and make beneath PEFT's own adapters for them."""
    checkpointing = GradientCheckpointing(is_checkpointed)
    step = replace(PLAIN, lora=lora(name), quantization=quantization, gradient_checkpointing=checkpointing)
    traced, real = told(name, step), RealStep(CONFIGS[name], step)
    real.model.train()
    real.warm_up()
    unseen_bytes = RANDOM_STATE_BYTES * LAYERS if is_checkpointed else 0
    expected_bytes = allocated_bytes(real.train) - unseen_bytes
    assert peak_bytes(traced.moments[:-1]) == pytest.approx(expected_bytes, rel=5e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_the_allocators_peak_in_an_evaluation(name: str) -> None:
    traced, real = told(name, PLAIN), RealStep(CONFIGS[name], PLAIN)
    real.model.eval()
    real.evaluate()
    assert traced.moments[-1].phase is Phase.EVALUATE
    assert traced.moments[-1].activations_bytes == pytest.approx(allocated_bytes(real.evaluate), rel=1e-3)


def test_the_gradients_of_a_tied_embedding_are_summed_in_place() -> None:
    """As torch's engine sums plain tensors: at the end there are that of the output and that of the input."""
    config = GemmaConfig(**(_GROUPED | {"vocab_size": 60_000}), head_dim=32)
    embedding_bytes = 2 * 60_000 * 128
    last = trace(config, CUDA).moments[-2]
    assert last.phase is Phase.BACKWARD
    assert last.activations_bytes == pytest.approx(2 * embedding_bytes, rel=0.05)


def test_work_is_that_of_torchs_own_counter() -> None:
    step = replace(PLAIN, attention=Attention.EAGER)
    real = RealStep(CONFIGS["llama"], step)
    with FlopCounterMode(display=False) as counter:
        real.train()
    works = [moment.work for moment in told("llama", step).moments[:-1]]
    scored = step.micro_batch * (step.tokens - 1)
    added_in_place_flop = 2 * (2 * scored * 128 * VOCABULARY)  # the loss's backward products: torch does not see them
    assert sum(work.matmul_flop for work in works) == counter.get_total_flops() + added_in_place_flop


def test_the_chunks_of_the_loss_that_are_not_played_count_as_if_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    step = replace(PLAIN, micro_batch=2, tokens=41)
    monkeypatch.setattr(chunked_logprob, "TOKEN_CHUNK_SIZE", 16)
    few = trace(CONFIGS["llama"], step)
    monkeypatch.setattr(micro_step_run, "few_loss_chunks", lambda ledger: contextlib.nullcontext())
    assert few == trace(CONFIGS["llama"], step)


def test_a_hundred_million_tokens_are_traced_as_quickly_as_thousands() -> None:
    began_s = time.process_time()
    found = trace(CONFIGS["llama"], replace(PLAIN, micro_batch=1, tokens=100_000_000))
    assert found.moments
    assert time.process_time() - began_s < 30  # minutes, were each chunk of the loss played


# --- Few layers for many ----------------------------------------------------------------------------------------------


def deep(name: str, count: int) -> PretrainedConfig:
    config = copy.deepcopy(CONFIGS[name])
    types = getattr(config, "layer_types", None)
    if types:
        config.layer_types = (types * count)[:count]
    config.num_hidden_layers = count
    return config


@pytest.mark.parametrize(
    ("name", "count", "step"),
    [
        ("llama", 9, CUDA),
        ("llama", 9, replace(CUDA, gradient_checkpointing=GradientCheckpointing.ON, lora=lora("llama"))),
        ("gpt2", 9, replace(CUDA, attention=Attention.FLASH_2, is_padded=True)),
        ("gemma2", 11, replace(CUDA, attention=Attention.EAGER)),
        pytest.param(
            *(
                "gemma2",
                12,
                replace(
                    CUDA,
                    attention=Attention.EAGER,
                    lora=lora("gemma2"),
                    gradient_checkpointing=GradientCheckpointing.ON,
                ),
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_few_layers_say_of_all_is_what_all_say(name: str, count: int, step: MicroStep) -> None:
    config = deep(name, count)
    short, full = trace(config, step), trace(config, step, at_full_depth=True)
    assert [_but_peak(moment) for moment in short.moments] == [_but_peak(moment) for moment in full.moments]
    assert [moment.activations_bytes for moment in short.moments] == pytest.approx(
        [moment.activations_bytes for moment in full.moments], rel=1e-3
    )
    assert (short.parameters, short.buffers_bytes) == (full.parameters, full.buffers_bytes)


def _but_peak(moment: Moment) -> Moment:
    return replace(moment, activations_bytes=0)


def test_layers_that_are_not_alike_are_all_traced() -> None:
    config = Qwen3MoeConfig(**_GROUPED, moe_intermediate_size=96, num_experts=8, mlp_only_layers=[1])
    config.router_aux_loss_coef = 0.0
    traced = trace(config, CUDA)
    sizes = {moment.gradient_count - before.gradient_count for before, moment in _pairs(traced)}
    assert len(sizes) == 3  # a layer with experts, one without, the embedding
    assert traced.moments[-2].gradient_count == traced.trained_count


def _pairs(traced: Trace) -> list[tuple[Moment, Moment]]:
    backward = [moment for moment in traced.moments if moment.phase is Phase.BACKWARD]
    return list(itertools.pairwise(backward))


# --- What a trace holds -----------------------------------------------------------------------------------------------


def test_moments_come_in_the_order_of_time_and_gradients_add_up() -> None:
    traced = told("llama", CUDA)
    phases = [moment.phase for moment in traced.moments]
    assert phases == [Phase.FORWARD] * (LAYERS + 2) + [Phase.BACKWARD] * (LAYERS + 2) + [Phase.EVALUATE]
    counts = [moment.gradient_count for moment in traced.moments if moment.phase is Phase.BACKWARD]
    assert counts == sorted(counts)
    assert counts[-1] == traced.trained_count == traced.parameter_count
    assert all(moment.gradient_count == 0 for moment in traced.moments if moment.phase is not Phase.BACKWARD)


def test_parameters_are_those_of_the_model() -> None:
    real = RealStep(CONFIGS["qwen2"], replace(PLAIN, lora=lora("qwen2")))
    traced = told("qwen2", replace(CUDA, lora=lora("qwen2")))
    parameters = list(real.model.parameters())
    assert traced.parameter_count == sum(parameter.numel() for parameter in parameters)
    assert traced.trained_count == sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    assert {group.element_bytes for group in traced.parameters} == {2}  # DeepSpeed leaves no adapter in fp32


def test_an_attention_mask_costs_something_only_where_there_is_padding() -> None:
    mask_bytes = 2 * PLAIN.micro_batch * PLAIN.tokens**2
    plain, padded = (told("llama", replace(CUDA, is_padded=padded)) for padded in (False, True))
    assert peak_bytes(padded.moments) - peak_bytes(plain.moments) > LAYERS * mask_bytes
    flash = [told("llama", replace(CUDA, attention=Attention.FLASH_2, is_padded=flag)) for flag in (0, 1)]
    assert peak_bytes(flash[0].moments) <= min(peak_bytes(flash[1].moments), peak_bytes(plain.moments))


A100, H100 = replace(CUDA, capability=(8, 0)), replace(CUDA, capability=(9, 0))
V100 = replace(CUDA, capability=(7, 0), dtype=Dtype.FP16)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (A100, SdpaKernel.FLASH),
        (replace(A100, is_padded=True), SdpaKernel.EFFICIENT),
        (H100, SdpaKernel.CUDNN),
        (
            replace(H100, is_padded=True, gradient_checkpointing=GradientCheckpointing.ON, lora=lora("llama")),
            SdpaKernel.CUDNN,
        ),
        (V100, SdpaKernel.MATH),
        (replace(V100, is_padded=True), SdpaKernel.EFFICIENT),
    ],
)
def test_a_trace_says_which_kernel_torchs_attention_ran(step: MicroStep, expected: SdpaKernel) -> None:
    assert told("llama", step).sdpa_kernels == (expected,)


def test_other_attention_names_no_kernel() -> None:
    others = [PLAIN, replace(CUDA, attention=Attention.EAGER), replace(CUDA, attention=Attention.FLASH_2)]
    assert [told("llama", step).sdpa_kernels for step in others] == [()] * 3


@pytest.mark.parametrize("is_padded", [False, True])
def test_cudnns_kernel_keeps_and_computes_what_the_others_do(is_padded: bool) -> None:
    """Its own sums of the softmax are one fp32 number a row; those of the memory-efficient kernel come in 32s."""
    cudnn, other = (told("llama", replace(step, is_padded=is_padded)) for step in (H100, A100))
    assert peak_bytes(cudnn.moments) == pytest.approx(peak_bytes(other.moments), rel=1e-3)
    assert [moment.work.matmul_flop for moment in cudnn.moments] == [
        moment.work.matmul_flop for moment in other.moments
    ]


def test_before_ampere_grouped_heads_without_a_mask_keep_all_scores() -> None:
    """No fused kernel takes them there. A larger micro-batch with padding takes less than one row alone."""
    scores_bytes = PLAIN.micro_batch * 4 * PLAIN.tokens**2 * 4  # of 4 heads, in fp32
    whole, padded = (told("llama", replace(V100, is_padded=padded)) for padded in (False, True))
    assert peak_bytes(whole.moments) - peak_bytes(padded.moments) > LAYERS * scores_bytes
    ungrouped = told("phi", V100)
    assert ungrouped.sdpa_kernels == (SdpaKernel.EFFICIENT,)


@pytest.mark.parametrize(
    "name", ["gpt2", "mixtral", *(pytest.param(name, marks=pytest.mark.slow) for name in ("llama", "falcon"))]
)
@pytest.mark.parametrize("is_lora", [False, True])
def test_a_gpu_needs_no_more_than_a_cpu(name: str, is_lora: bool) -> None:
    """Its dropout keeps a byte an element, and its loss works in place; its blocks are larger, by less than 1 %."""
    step = replace(PLAIN, lora=lora(name) if is_lora else None, gradient_checkpointing=GradientCheckpointing(is_lora))
    on_gpu, on_cpu = told(name, replace(step, kind=DeviceKind.CUDA)), told(name, step)
    assert 0 < peak_bytes(on_gpu.moments) < 1.01 * peak_bytes(on_cpu.moments)


def test_what_cannot_be_traced_keeps_nothing_else_from_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("model")
    CONFIGS["llama"].save_pretrained(folder)
    wrong = replace(CUDA, lora=Lora(8, 16, ("nothing",)))
    slow = replace(PLAIN, attention=Attention.FLASH_2)
    said = list(traced(TraceModel(make_request(folder, 128), (wrong, CUDA, slow), "log")))
    assert [[one.of for one in each.traces] for each in said] == [[], [CUDA], []]
    assert [[one.of for one in each.failures] for each in said] == [[wrong], [], [slow]]
    assert "nothing" in said[0].failures[0].why
    assert "GPU" in said[2].failures[0].why
    assert all(one.is_unbuildable for each in said for one in each.failures)


@pytest.mark.parametrize("name", ["llama", "falcon", "gpt2", "mixtral"])
@pytest.mark.parametrize("checkpointing", [GradientCheckpointing.OFF, GradientCheckpointing.ON])
def test_micro_steps_that_run_on_one_model_say_what_each_says_alone(
    name: str, checkpointing: GradientCheckpointing
) -> None:
    step = replace(PLAIN, gradient_checkpointing=checkpointing)
    steps = [replace(step, micro_batch=rows) for rows in (2, 1, 3)]
    with contextlib.closing(micro_step_trace.ModelTracer(CONFIGS[name])) as tracer:
        assert [tracer.trace(one) for one in steps] == [trace(CONFIGS[name], one) for one in steps]


def test_a_micro_step_that_fails_leaves_nothing_to_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = replace(PLAIN, micro_batch=1)
    run = micro_step_run.MicroStepRun._run

    def fail_at_last(self: Any, step: MicroStep, ledger: Any) -> None:
        run(self, step, ledger)
        if step == PLAIN:
            weight = next(self._model.parameters())
            weight.grad = torch.empty_like(weight)
            raise KeyError("at the end")

    monkeypatch.setattr(micro_step_run.MicroStepRun, "_run", fail_at_last)
    with contextlib.closing(micro_step_trace.ModelTracer(CONFIGS["llama"])) as tracer:
        with pytest.raises(KeyError):
            tracer.trace(PLAIN)
        assert tracer.trace(smaller) == trace(CONFIGS["llama"], smaller)


@pytest.mark.parametrize("error", [KeyError("seven"), AttributeError("no attribute 'size'"), TypeError("unhashable")])
def test_what_python_says_of_a_models_code_is_not_told(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CONFIGS["llama"].save_pretrained(tmp_path)

    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(micro_step_trace, "meta_model", fail)
    (said,) = traced(TraceModel(make_request(tmp_path, 128), (CUDA,), "log"))
    why = said.failures[0].why
    assert why.startswith("its code does not run on tensors without memory, test_micro_step_trace.py line ")
    assert type(error).__name__ not in why
    assert str(error) not in why


def test_no_model_is_refused() -> None:
    (said,) = traced(TraceModel(make_request("/nowhere/at/all", 128), (CUDA,), "log"))
    assert isinstance(said, Refused)
    assert "/nowhere/at/all" in said.message
