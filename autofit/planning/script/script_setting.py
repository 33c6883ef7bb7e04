"""What formulas need to know of a script that somebody else wrote, from what it showed of itself."""

from __future__ import annotations

from autofit.domain.estimate import Constants
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.model import Lacking, ModelShape
from autofit.domain.request import Request, Training
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import ModelTensors
from autofit.planning.optimizer_states import moment_count
from autofit.planning.setting import Setting
from autofit.planning.zero_sizes import zero_sizes

_TENSORS_PER_LAYER = 7


def script_request(
    name: str, facts: ScriptFacts, pins: Pins, *, memory_limit_bytes: int | None, identity: tuple[str, ...]
) -> Request:
    """The request that a script amounts to; `identity` is whatever else its trials depend on, such as the text of the
    script."""
    return Request(
        model=name,
        data="the script's own",
        sequence_length=facts.tokens or 1,
        global_batch=facts.global_batch,
        pins=pins,
        training=Training(epochs=0.0, extra_arguments=identity),
        memory_limit_bytes=memory_limit_bytes,
    )


def script_setting(
    request: Request, facts: ScriptFacts, shape: ModelShape, hardware: Hardware, constants: Constants | None
) -> Setting:
    """The setting of a script: parameters are known tensor by tensor; activations by the closed form, until probes
    correct it."""
    return Setting(
        request,
        hardware,
        shape,
        worst_tokens=request.sequence_length,
        tensors=ModelTensors(facts.parameters, facts.buffers_bytes),
        is_surveyed=False,
        known_constants=constants,
        has_exact_pins=False,  # its environment is its user's
        moment_count=moment_count(facts.optimizer, facts.optimizer_options),
        lacking=_lacking(facts),
        bucket_elements=zero_sizes(shape.hidden_size).reduce_bucket,  # as its trainer would fill them in
    )


def _lacking(facts: ScriptFacts) -> tuple[Lacking, ...]:
    """What a script is not turned to: offload of a part of the optimizer, which is only right with what
    `worker/deepspeed/divided_optimizer.py` mends in autofit's own ranks; what is between checkpointing and none, for it
    has its own ways to say that; and DeepSpeed's own stage 0, unless it has that or loads what that wrote.

    Measured with DeepSpeed 0.19.8, trl 1.16 and a tiny model in bf16 on two ranks: after one step at stage 0 the loss
    was 7.335, at stage 1 7.356, in fp32 7.357.
    """
    forgets = "DeepSpeed neither saves nor schedules what stays of the optimizer on the device"
    part = Lacking(OFFLOAD.name, OFFLOAD.of(Offload.PARTIAL).word, forgets)
    why = "checkpointing is turned on and off in a script, and nothing between"
    between = (
        Lacking(GRADIENT_CHECKPOINTING.name, GRADIENT_CHECKPOINTING.of(one).word, why)
        for one in GradientCheckpointing
        if one.is_between
    )
    if facts.zero_stage == 0 or (facts.checkpoint is not None and 0 in facts.checkpoint.zero_stages):
        return (part, *between)
    plain = Lacking(ZERO_STAGE.name, ZERO_STAGE.of(0).word, "DeepSpeed without ZeRO does not train quite the same")
    return (part, *between, plain)


def guessed_shape(facts: ScriptFacts) -> ModelShape:
    """The shape of a model without a Hugging Face config: square matrices of the size that is most common, seven to a
    layer.

    Right in its parameter count; activations are a guess.
    """
    matrices = [group for group in facts.parameters if group.tensor_count > 0]
    usual = max(matrices, key=lambda group: group.element_count * group.tensor_count, default=None)
    hidden_size = max(1, round(usual.element_count**0.5)) if usual else 1
    parameter_count = sum(group.element_count * group.tensor_count for group in matrices)
    return ModelShape(
        name=facts.model_class,
        model_type="unknown",
        layer_count=max(1, (usual.tensor_count if usual else 1) // _TENSORS_PER_LAYER),
        hidden_size=hidden_size,
        head_count=1,
        key_value_head_count=1,
        head_size=hidden_size,
        intermediate_size=4 * hidden_size,
        vocabulary_size=1,
        parameter_count=parameter_count,
        is_counted_exactly=True,
    )


def own_strategy(facts: ScriptFacts) -> Strategy:
    """The strategy of the script as it is. Its method counts as full: LoRA is the script's own affair. Attention that
    cannot be told counts as SDPA."""
    rung = Rung(
        method=Method.FULL,
        zero_stage=facts.zero_stage,
        offload=facts.offload,
        gradient_checkpointing=GradientCheckpointing(bool(facts.gradient_checkpointing)),
        attention=facts.attention or Attention.SDPA,
        dtype=facts.dtype,
    )
    return Strategy(rung, facts.micro_batch, facts.gradient_accumulation)
