"""Which of transformers' optimizers are autofit's own, and which others stay what they are under DeepSpeed's ZeRO.

ZeRO gives the optimizer one flat fp32 tensor a parameter group and rank, a share of all parameters laid end to end
(DeepSpeed 0.19.8, `zero/stage_1_and_2.py`: `single_partition_of_fp32_groups`; `zero/stage3.py`:
`fp32_partitioned_groups_flat`). An update of each element by itself is the same there; one that looks at a parameter as
a whole is another algorithm, without a word. With offload accelerate puts DeepSpeed's own Adam in the place of any
optimizer that is not torch's AdamW (`map_pytorch_optim_to_deepspeed`), unless the configuration forbids it.
"""

from __future__ import annotations

from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.knobs.allowance import LAST_RESORTS
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.knobs.optimizer import BF16_MASTERS, OPTIMIZER, TRAINER_NAMES, Optimizer
from autofit.domain.request import Request
from autofit.worker.training.trainer_arguments import extra_arguments

OFFLOADED = frozenset({"adamw_torch", "adamw_torch_fused"})
"""Optimizers that update each element by itself, and have a twin of DeepSpeed's own for the host."""

ELEMENTWISE = frozenset({
    "adamw_anyprecision", "ademamix", "adagrad", "paged_adamw_32bit", "paged_ademamix_32bit", "paged_lion_32bit",
    "rmsprop", "rmsprop_bnb", "rmsprop_bnb_32bit",
})  # fmt: skip

KNOB = {
    **{name: optimizer for optimizer, name in TRAINER_NAMES.items()},
    "adamw_8bit": Optimizer.ADAMW_8BIT,
    "adalomo": Optimizer.ADALOMO,
    "lomo": Optimizer.LOMO,
}
"""Optimizers by transformers' names that `--optimizer` has: its plans know what they keep."""

_FACTORED = "it factors the moments of whole matrices and clips by the mean square of each"
_BLOCKS = "its moments in 8 bits are rounded in blocks that run from one parameter into the next there"
_LOW_RANK = "it projects the gradient of whole matrices"
_IN_BACKWARD = "it updates within the backward pass, where DeepSpeed has not summed the gradients of the ranks"
_SCHEDULE_FREE = "it trains with one set of weights and evaluates and saves another, which DeepSpeed does not swap"

UNFAITHFUL = {
    "adafactor": _FACTORED,
    "adamw_torch_npu_fused": "it needs an Ascend NPU",
    "adamw_torch_xla": "it needs a TPU",
    "ademamix_8bit": _BLOCKS,
    "apollo_adamw": _LOW_RANK,
    "apollo_adamw_layerwise": _IN_BACKWARD,
    "galore_adafactor": _LOW_RANK,
    "galore_adafactor_layerwise": _IN_BACKWARD,
    "galore_adamw": _LOW_RANK,
    "galore_adamw_8bit": _LOW_RANK,
    "galore_adamw_8bit_layerwise": _IN_BACKWARD,
    "galore_adamw_layerwise": _IN_BACKWARD,
    "grokadamw": "its moments decay by the place of each parameter among the others, and it clips each by itself",
    "lion_8bit": _BLOCKS,
    "paged_adamw_8bit": _BLOCKS,
    "paged_ademamix_8bit": _BLOCKS,
    "paged_lion_8bit": _BLOCKS,
    "rmsprop_bnb_8bit": _BLOCKS,
    "schedule_free_adamw": _SCHEDULE_FREE,
    "schedule_free_radam": _SCHEDULE_FREE,
    "schedule_free_sgd": _SCHEDULE_FREE,
    "stable_adamw": "it clips the update by the mean square of each parameter",
}
"""Optimizers by name, with why they would be other algorithms on DeepSpeed's flat shares."""


def check_optimizer(request: Request) -> None:
    """Checks the optimizer; UsageError for one after `--` that this training would not be true to."""
    asked = extra_arguments(request).get("optim")
    if asked is None:
        return
    name = str(getattr(asked, "value", asked))
    if name in KNOB:
        raise UsageError(f"training argument --optim {name} is autofit's to set; use --optimizer {KNOB[name].value}")
    if _may_be_another(request):
        raise UsageError(f"training argument --optim {name} and --optimizer or --allow name the optimizer: keep one")
    if name in OFFLOADED or (name in ELEMENTWISE and request.pins.of(OFFLOAD) is Offload.NONE):
        return
    if name in ELEMENTWISE:
        raise UsageError(
            f"training argument --optim {name}: with offload DeepSpeed's own Adam would take its place; "
            "add --offload none"
        )
    why = UNFAITHFUL.get(name, "autofit does not know whether it is the same on shares of flat parameters")
    raise UsageError(
        f"training argument --optim {name} would be another algorithm under DeepSpeed's ZeRO: {why}; "
        f"{', '.join(sorted(OFFLOADED))} and, with --offload none, {', '.join(sorted(ELEMENTWISE))} stay what they are"
    )


def _may_be_another(request: Request) -> bool:
    """Whether the search may take another optimizer than AdamW."""
    words = {value.word for value in OPTIMIZER.values if value.gives_up} | {LAST_RESORTS}
    return request.pins.of(OPTIMIZER) not in (None, Optimizer.ADAMW) or not words.isdisjoint(request.allow)


def on_flat_shares(kind: Any, name: str) -> Any:
    """The class of transformers' optimizer `name`, or ours in its place, which is the same on ZeRO's flat shares."""
    optimizer = KNOB.get(name)
    if optimizer is Optimizer.ADAMW_8BIT:
        from autofit.worker.training.blockwise_adamw import BlockwiseAdamW

        return BlockwiseAdamW
    if optimizer in BF16_MASTERS:
        from autofit.worker.training.flat_adamw import FlatAdamW4bit, FlatAdamW8bit

        return FlatAdamW8bit if optimizer is Optimizer.ADAMW_8BIT_BF16 else FlatAdamW4bit
    return kind
