"""What of each family is known not to work, and why: the test holds the rest to work, and this not to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

import pytest
from _pytest.mark import ParameterSet

from tests.models.families import FAMILIES
from tests.spread import with_matrix


class Check(str, Enum):
    """What a family is put through, a test each; the value heads a column of the table."""

    PLAN = "plan"
    LOSS = "loss"
    TRACE = "trace, full"
    TRACE_LORA = "trace, LoRA"
    ADAPTERS = "LoRA step"
    PROBE = "probe"
    WRITTEN = "written"
    SAVED = "save, load, generate"


_NO_BF16 = "some of its layers do not run in bf16"
_DOGE = "trl's loss of the router does not read the router's scores of Doge"
_NOT_ON_TEXT = "adapters sit on parts that text does not reach"
_DATA = "what its code runs depends on the data, which tensors without memory do not have"
_SCAN = "its scan over the tokens is traced with more than the CPU takes"
_UNLIKE = "its trace differs from what the CPU takes"

_FAULTS: dict[Check, dict[str, tuple[str, ...]]] = {
    Check.PLAN: {
        _DATA: ("blt", "dbrx", "jetmoe", "longcat_flash", "qwen4_exp", "qwen4_exp_text", "reformer"),
        _DOGE: ("doge",),
        _NO_BF16: ("xlstm",),
    },
    Check.TRACE: {
        _DATA: ("blt", "dbrx", "jetmoe", "longcat_flash", "qwen4_exp", "qwen4_exp_text", "reformer"),
        _DOGE: ("doge",),
        _NO_BF16: ("inkling2_text", "xlstm"),
        _SCAN: ("falcon_mamba", "jamba", "mamba", "zamba"),
        _UNLIKE: ("ctrl", "granitemoehybrid", "hrm_text", "inkling_text", "nemotron_h"),
    },
    Check.TRACE_LORA: {
        _DATA: ("blt", "dbrx", "jetmoe", "longcat_flash", "qwen4_exp", "qwen4_exp_text", "reformer"),
        _DOGE: ("doge",),
        _NO_BF16: ("inkling2_text", "xlstm"),
        _SCAN: ("falcon_mamba", "jamba", "mamba", "zamba"),
        _UNLIKE: ("ctrl", "hrm_text", "inkling_text", "llama4", "llama4_text", "nemotron_h"),
    },
    Check.ADAPTERS: {
        _DOGE: ("doge",),
        _NOT_ON_TEXT: ("blt",),
        "adapters sit on parts that the loss of a step does not reach": (
            "deepseek_v4", "gemma3n_text", "longcat_flash", "xlstm", "zamba2", "zaya",
        ),
        "nothing below its layers is trained, and its own backward pass does not begin there": ("reformer",),
    },
    Check.PROBE: {
        _NO_BF16: ("inkling2_text", "xlstm"),
        _DOGE: ("doge",),
        "its gradients are not finite under ZeRO-3": ("openai-gpt",),
    },
    Check.SAVED: {
        "transformers' own generation does not take it": ("blt",),
        _DOGE: ("doge",),
        "transformers saves the text model's configuration, of which AutoModelForCausalLM makes none": (
            "emu3", "mllama",
        ),
        "transformers' generation expects another size of its states": ("xlstm",),
        "transformers empties the embedding of the padding token when it loads": ("youtu",),
    },
}  # fmt: skip
"""What does not work, by check and reason."""


def fault(check: Check, model_type: str) -> str | None:
    """Why the family is expected to fail, in one sentence; None where it must not."""
    return next((why for why, families in _FAULTS.get(check, {}).items() if model_type in families), None)


def declared_families() -> set[str]:
    return {name for reasons in _FAULTS.values() for families in reasons.values() for name in families}


def cases(check: Check, always: Iterable[str] = ()) -> Iterator[ParameterSet]:
    """The families as parameters of a test: some always, the others, which are slow together, in the matrix."""
    known = tuple(always)
    for case in with_matrix(known, (name for name in FAMILIES if name not in known)):
        marks = [*case.marks, *([pytest.mark.slow] if case.marks else [])]
        why = fault(check, str(case.values[0]))
        if why is not None:
            marks.append(pytest.mark.xfail(strict=True, reason=why))
        yield pytest.param(*case.values, marks=marks, id=str(case.values[0]))
