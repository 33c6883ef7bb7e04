"""Where the software of a published run does something else than autofit's own, each with its source.

Nothing here is fitted to a row: each figure is counted in that software's code, or measured on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from _published_rows import Row

from autofit.domain.outcome import Phase
from autofit.domain.trace import Moment, Trace, Work
from autofit.planning.setting import Setting


@dataclass(frozen=True)
class Software:
    """What one source's software does; the plain values are autofit's own."""

    logit_bytes: int = 0  # for each logit at the loss's worst moment; trl's chunks hold none of them at once
    dropped_inputs: tuple[int, int] = (0, 0)  # of hidden and of intermediate size, whose dropouts a layer's LoRA keeps
    attention_slowness: float = 1.0  # of its fused attention, in units of FlashAttention-2's time
    more_kernels: float = 1.0  # that its Python starts


PLAIN = Software(logit_bytes=12)

SOFTWARE = {
    # finetune.py: adapters on c_attn, c_proj, w1, w2 and mlp.c_proj with a dropout of 0.05, in transformers' autocast
    # (--bf16); on a CPU 3,099 operators where 2,275 are dispatched without both (Qwen2 of 8 layers, PEFT 0.21).
    "qwen": Software(12, (4, 1), more_kernels=3099 / 2275),
    # swift/llm/sft.py: lora_dropout_p 0.05; its benchmark adapts c_attn alone.
    "ms-swift": Software(12, (1, 0), more_kernels=3099 / 2275),
    # train.py: the model's output lives through the backward pass, and transformers 4.38 has fp32 logits in it;
    # --lora_dropout 0.1 on all seven linear modules.
    "fsdp_qlora": Software(16, (6, 1)),
    # method_comparison/MetaMathQA/run.py: the output lives through the backward pass, with 16-bit logits.
    "peft-bench": Software(14),
    # FlashAttention 1 (setup.py: flash-attn==1.0.9) or the Triton kernel that was written after it; FlashAttention-2 is
    # "around 2x" as fast (Dao, 2023, abstract).
    "llm-foundry": Software(12, attention_slowness=2.0),
}
"""12 bytes a logit: in the forward pass 16-bit logits, their shifted copy, fp32 ones and their log-softmax; in the
backward pass the log-softmax and two fp32 gradients (torch's cross_entropy behind transformers' *ForCausalLM)."""

DROPOUT_BYTES = 3
"""What a dropout keeps of an element: its result in 16 bits and a mask."""


def as_published(row: Row, setting: Setting) -> Setting:
    """The setting as the row's software holds it."""
    known = SOFTWARE.get(row.source, PLAIN)
    logit_bytes = 0 if row["loss"] == "chunked CE" else known.logit_bytes
    more_bytes = logit_bytes * setting.shape.vocabulary_size * row.tokens * row.micro_batch
    changes: list[Callable[[Trace], Trace]] = [lambda trace: _with_logits(trace, more_bytes)]
    if row.is_lora:
        changes.append(lambda trace: _with_dropouts(trace, _dropout_bytes(known, row, setting)))
    changes.append(lambda trace: _with_work(trace, known))
    traces = setting.traces
    for change in changes:
        traces = tuple(change(trace) for trace in traces)
    # Two 16-bit moments and no master weight take four bytes of a parameter, as one fp32 number does.
    return replace(setting, traces=traces, moment_count=0 if row.is_pure_bf16 else setting.moment_count)


def _with_logits(trace: Trace, more_bytes: int) -> Trace:
    """Whole logits where the loss is made: in the last stretch forward and the first one backward."""
    phases = [moment.phase for moment in trace.moments]
    loss = {len(phases) - 1 - phases[::-1].index(Phase.FORWARD), phases.index(Phase.BACKWARD)}
    return _raised(trace, lambda index, _: more_bytes if index in loss else 0)


def _dropout_bytes(known: Software, row: Row, setting: Setting) -> int:
    """Of one layer, whose forward pass is run again before its backward pass."""
    hidden, intermediate = known.dropped_inputs
    elements = hidden * setting.shape.hidden_size + intermediate * setting.shape.intermediate_size
    return DROPOUT_BYTES * elements * row.tokens * row.micro_batch if row.is_checkpointed else 0


def _with_dropouts(trace: Trace, layer_bytes: int) -> Trace:
    first = [moment.phase for moment in trace.moments].index(Phase.BACKWARD)
    return _raised(trace, lambda index, moment: layer_bytes if moment.phase is Phase.BACKWARD and index > first else 0)


def _with_work(trace: Trace, known: Software) -> Trace:
    return replace(trace, moments=tuple(replace(moment, work=_slowed(moment.work, known)) for moment in trace.moments))


def _slowed(work: Work, known: Software) -> Work:
    """A slower kernel as one that computes more."""
    more_flop = round((known.attention_slowness - 1) * work.attention_flop)
    return replace(
        work,
        matmul_flop=work.matmul_flop + more_flop,
        attention_flop=work.attention_flop + more_flop,
        kernel_count=round(known.more_kernels * work.kernel_count),
    )


def _raised(trace: Trace, more_bytes: Callable[[int, Moment], int]) -> Trace:
    moments = tuple(
        replace(moment, activations_bytes=moment.activations_bytes + more_bytes(index, moment))
        for index, moment in enumerate(trace.moments)
    )
    return replace(trace, moments=moments)
