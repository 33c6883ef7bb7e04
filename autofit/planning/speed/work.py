"""What one micro-step makes a device do: from a trace of the real model, or else by formula."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment, Work
from autofit.planning.memory.closed_activations import checkpointed_layers
from autofit.planning.memory.states import trained_count
from autofit.planning.parameters import parameters
from autofit.planning.plain_torch import is_autocast
from autofit.planning.quantized_weights import PACKED_BITS
from autofit.planning.reference import forward_passes
from autofit.planning.setting import Setting

NORM_BYTES = 128
GATE_BYTES = 10
"""Bytes read and written by a Llama layer's forward pass beside matrix products, in 16 bits, with a kernel an
operation: for each element of the hidden state (two norms in fp32 72, residuals 12, rotary 36, copies 8), of the
intermediate one."""

LOSS_BYTES = 18
"""Bytes for each logit in each pass: written in 16 bits, made fp32, its softmax taken, and back again."""

SCORE_BYTES = 19
"""Bytes for each attention score that the eager kernel writes: scaled, masked, softmax in fp32, cast, read again."""

CAST_BYTES = 6
"""Bytes read and written to cast a number from fp32 to 16 bits, or back."""

AUTOCAST_BYTES = 56
AUTOCAST_KERNELS = 10
"""Bytes more for each element of the hidden state, and kernels for a layer, where weights are fp32 and autocast
computes in 16 bits: what goes from layer to layer is fp32, and is cast for each product that reads it (traces of
Llama-2-7B). An adapter's input is made fp32, and 16 bits again."""

NARROWED_ROW_BYTES = 9
"""Bytes for each element that goes into or comes out of a layer of int8 weights, forward on a GPU: it is made fp16 and
int8, or comes as int32 and is made 16 bits (MatMul8bitLt in bitsandbytes/autograd/_functions.py, 0.50)."""

LAYER_KERNELS = 40
ADAPTER_KERNELS = 4
"""Kernels that a forward pass starts: for a layer of transformers' Llama, and more for each adapted module."""

BACKWARD = 2
"""A backward pass by the forward pass, in bytes and kernels; in FLOP too when weights get gradients, else once."""

FUSED_ATTENTION_BACKWARD = 2.5
"""FlashAttention computes the scores again: five products for two (Dao et al., FlashAttention, 2022, section 3.1)."""


@dataclass(frozen=True)
class MicroStepWork:
    """The stretches of one micro-step's passes, the reference's among the forward ones; what is computed again belongs
    to the backward pass."""

    forward: tuple[Work, ...]
    backward: tuple[Work, ...]


def typical_tokens(strategy: Strategy, setting: Setting) -> float:
    """Width of a typical micro-batch: the expected longest of its rows, in tokens.

    Exact for lengths that are evenly spread around their mean up to the longest. Known error: too wide where few rows
    are long, by up to a factor of longest / mean in a large micro-batch.
    """
    worst, mean, rows = setting.worst_tokens, setting.mean_tokens, strategy.micro_batch
    return worst if mean is None else mean + (worst - mean) * (rows - 1) / (rows + 1)


def traced(moments: tuple[Moment, ...], strategy: Strategy, setting: Setting) -> MicroStepWork:
    """The work of a trace at the worst width, brought to the typical one in the proportion of the formulas."""
    forward = tuple(moment.work for moment in moments if moment.phase in (Phase.FORWARD, Phase.REFERENCE))
    backward = tuple(moment.work for moment in moments if moment.phase is Phase.BACKWARD)
    tokens = typical_tokens(strategy, setting)
    if tokens == setting.worst_tokens:
        return MicroStepWork(forward, backward)
    worst, usual = by_formula(strategy, setting, setting.worst_tokens), by_formula(strategy, setting, tokens)
    return MicroStepWork(
        _scaled(forward, usual.forward, worst.forward), _scaled(backward, usual.backward, worst.backward)
    )


def by_formula(strategy: Strategy, setting: Setting, tokens: float) -> MicroStepWork:
    """The work of sequences `tokens` wide: 2·P FLOP a token forward, as much for each kind of gradient (Kaplan et al.,
    2020, sec. 2.1).

    Attention adds 4·s²·heads·head size a sequence and layer, half of it where a fused kernel skips what the mask hides.
    Checkpointing runs the layers again but for their last product, where torch stops early. Known error: input
    embeddings count though they multiply nothing (2 % of a 7B, a quarter of a 0.5B), and so do all experts of a
    mixture. Against traces of Llama-2-7B: FLOP 2 to 3 % too many, other bytes within 10 %, eager 30 %.
    """
    forward = _forward(strategy, setting, tokens)
    backward = _backward(forward, strategy, setting, tokens)
    is_again = strategy.rung.gradient_checkpointing.recomputes
    again = (_again(forward, strategy, setting, tokens),) if is_again else ()
    return MicroStepWork((forward,) * forward_passes(setting.request), (*again, backward))


def _forward(strategy: Strategy, setting: Setting, tokens: float) -> Work:
    shape, rung = setting.shape, strategy.rung
    sequences, width = setting.request.sequences(strategy.micro_batch), element_bytes(rung.dtype) / 2
    seen = sequences * tokens
    adapters = trained_count(rung, setting) if rung.method is Method.LORA else 0
    layer_bytes = NORM_BYTES * shape.hidden_size + GATE_BYTES * shape.intermediate_size
    scores = shape.layer_count * sequences * shape.head_count * tokens**2
    score_bytes = SCORE_BYTES * scores if rung.attention is Attention.EAGER else 0.0
    return Work(
        matmul_flop=round(2 * (shape.parameter_count + adapters) * seen + _attention_flop(strategy, setting, tokens)),
        matmul_bytes=round(2 * width * (shape.parameter_count + seen * _operands(setting))),
        other_bytes=round(
            width * (seen * (shape.layer_count * layer_bytes + LOSS_BYTES * setting.output_count) + score_bytes)
            + _autocast_bytes(strategy, setting, seen)
            + _quantized_bytes(strategy, setting, seen)
        ),
        kernel_count=round(shape.layer_count * _layer_kernels(strategy, setting)),
        attention_flop=round(_fused_flop(strategy, setting, tokens)),
    )


def _autocast_bytes(strategy: Strategy, setting: Setting, seen: float) -> float:
    """Bytes that autocast adds to the forward pass of `seen` tokens: the weights' copies, and wider activations."""
    rung, hidden = strategy.rung, setting.shape.layer_count * setting.shape.hidden_size * seen
    if not is_autocast(rung, setting):
        return 0.0
    each_bytes = 2 * CAST_BYTES * _adapted(strategy, setting) if rung.method is Method.LORA else AUTOCAST_BYTES
    return CAST_BYTES * trained_count(rung, setting) + each_bytes * hidden


def _quantized_bytes(strategy: Strategy, setting: Setting, seen: float) -> float:
    """Bytes that a quantised base adds to the forward pass of `seen` tokens."""
    if strategy.rung.quantization is Quantization.INT8 and setting.kind is DeviceKind.CUDA:
        return NARROWED_ROW_BYTES * seen * _operands(setting)
    return _widened_bytes(strategy, setting)


def _widened_bytes(strategy: Strategy, setting: Setting) -> float:
    """Bytes read and written to make all quantised weights wide again, once in each pass."""
    rung, known = strategy.rung, parameters(strategy.rung, setting)
    if rung.quantization is Quantization.NONE:
        return 0.0
    return known.widened_count * (element_bytes(rung.dtype) + PACKED_BITS[rung.quantization] / 8)


def _layer_kernels(strategy: Strategy, setting: Setting) -> float:
    """Kernels of a layer's forward pass; an adapter's casts are as many as its own."""
    is_cast, adapted = is_autocast(strategy.rung, setting), _adapted(strategy, setting)
    casts = AUTOCAST_KERNELS if is_cast and strategy.rung.method is Method.FULL else 0
    return LAYER_KERNELS + casts + ADAPTER_KERNELS * (2 if is_cast else 1) * adapted


def _again(forward: Work, strategy: Strategy, setting: Setting, tokens: float) -> Work:
    """The work of a second forward pass of the checkpointed layers, without the output layer, the loss and each layer's
    last product, which nothing reads again, and without attention where its output is kept."""
    shape, seen = setting.shape, setting.request.sequences(strategy.micro_batch) * tokens
    skipped = shape.hidden_size * (setting.output_count + shape.layer_count * shape.intermediate_size)
    loss_bytes = LOSS_BYTES * setting.output_count * seen * element_bytes(strategy.rung.dtype) / 2
    checkpointing = strategy.rung.gradient_checkpointing
    attention = _attention_flop(strategy, setting, tokens) if checkpointing is GradientCheckpointing.SELECTIVE else 0.0
    share = checkpointed_layers(strategy.rung, setting) / shape.layer_count
    return Work(
        matmul_flop=max(0, round(share * (forward.matmul_flop - 2 * skipped * seen - attention))),
        matmul_bytes=round(share * forward.matmul_bytes),
        other_bytes=round(share * (forward.other_bytes - loss_bytes)),
        kernel_count=round(share * forward.kernel_count),
        attention_flop=0 if attention else round(share * forward.attention_flop),
    )


def _backward(forward: Work, strategy: Strategy, setting: Setting, tokens: float) -> Work:
    rung, attention = strategy.rung, _attention_flop(strategy, setting, tokens)
    linear, seen = forward.matmul_flop - attention, setting.request.sequences(strategy.micro_batch) * tokens
    if rung.method is Method.LORA:
        linear += 2 * trained_count(rung, setting) * seen  # frozen weights get no gradient
    else:
        linear *= BACKWARD
    repeated = BACKWARD if rung.attention is Attention.EAGER else FUSED_ATTENTION_BACKWARD
    quantized_bytes = _quantized_bytes(strategy, setting, seen)
    return Work(
        matmul_flop=round(linear + repeated * attention),
        matmul_bytes=forward.matmul_bytes * (1 if rung.method is Method.LORA else BACKWARD),
        other_bytes=round(BACKWARD * (forward.other_bytes - quantized_bytes) + _widened_bytes(strategy, setting)),
        kernel_count=forward.kernel_count * BACKWARD,
        attention_flop=round(repeated * _fused_flop(strategy, setting, tokens)),
    )


def _attention_flop(strategy: Strategy, setting: Setting, tokens: float) -> float:
    """FLOP of attention, forward. FlashAttention always skips the upper triangle, torch's kernels where no row is
    padded."""
    shape, kernel, sequences = setting.shape, strategy.rung.attention, setting.request.sequences(strategy.micro_batch)
    has_mask = setting.is_padded and sequences > 1
    skips = kernel is Attention.FLASH_2 or (kernel is Attention.SDPA and not has_mask)
    whole = 4 * tokens**2 * sequences * shape.head_count * shape.head_size * shape.layer_count
    return whole / 2 if skips else whole


def _fused_flop(strategy: Strategy, setting: Setting, tokens: float) -> float:
    """FLOP of a fused attention kernel, forward; the eager one's products are products like others."""
    return 0.0 if strategy.rung.attention is Attention.EAGER else _attention_flop(strategy, setting, tokens)


def _operands(setting: Setting) -> int:
    """Elements a token that go into and come out of the linear modules of all layers (Llama's)."""
    shape = setting.shape
    return shape.layer_count * (11 * shape.hidden_size + 3 * shape.intermediate_size)


def _adapted(strategy: Strategy, setting: Setting) -> float:
    """The adapters of a layer, each of two tensors."""
    if strategy.rung.method is not Method.LORA:
        return 0
    return parameters(strategy.rung, setting).trained_tensor_count / (2 * setting.shape.layer_count)


def _scaled(works: tuple[Work, ...], usual: tuple[Work, ...], worst: tuple[Work, ...]) -> tuple[Work, ...]:
    less, more = _sum(usual), _sum(worst)
    return tuple(_in_proportion(work, less, more) for work in works)


def _in_proportion(work: Work, less: Work, more: Work) -> Work:
    return Work(
        matmul_flop=round(work.matmul_flop * less.matmul_flop / more.matmul_flop),
        matmul_bytes=round(work.matmul_bytes * less.matmul_bytes / more.matmul_bytes),
        other_bytes=round(work.other_bytes * less.other_bytes / more.other_bytes),
        kernel_count=work.kernel_count,
        attention_flop=round(work.attention_flop * less.attention_flop / more.attention_flop)
        if more.attention_flop
        else 0,
    )


def _sum(works: tuple[Work, ...]) -> Work:
    return sum(works, Work())
