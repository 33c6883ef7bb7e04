"""Parameters, gradients and optimizer states, as ZeRO divides them and as offload moves them."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind
from autofit.domain.model import ModelShape
from autofit.domain.request import Lora
from autofit.domain.strategy import Dtype, Method, Offload, Rung, Strategy

from .setting import Setting

MASTER_AND_MOMENTS_BYTES = 12
"""Per trained parameter: fp32 master weight and Adam's two fp32 moments (Rajbhandari et al., 2020, section 3.1)."""

MOMENTS_BYTES = 8
"""Per trained parameter in fp32 ZeRO-3, whose partition is its own master copy (DeepSpeed 0.19.8)."""


@dataclass(frozen=True)
class ModelStates:
    """Bytes that one rank holds on its device; `offloaded_bytes` is what it moved to the host.

    `low_bytes` leaves out gradients that DeepSpeed may already have dropped at the peak.
    """

    parameters_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    offloaded_bytes: int
    low_bytes: int


def element_bytes(dtype: Dtype) -> int:
    return 4 if dtype is Dtype.FP32 else 2


def lora_parameter_count(shape: ModelShape, lora: Lora) -> int:
    """Parameters of the adapters: r (inputs + outputs) for each target of each layer (Hu et al., LoRA, 2021, 4.1).

    Exact for Llama-like layers. Other targets are counted as hidden × hidden: right in order of magnitude only.
    """
    targets = _linear_shapes(shape)
    names = tuple(targets) if lora.target_modules == ("all-linear",) else lora.target_modules
    square = (shape.hidden_size, shape.hidden_size)
    sides = sum(sum(targets.get(name.rsplit(".", 1)[-1], square)) for name in names)
    return shape.layer_count * lora.r * sides


def trained_count(rung: Rung, setting: Setting) -> int:
    """Parameters that get a gradient and an optimizer state."""
    is_lora = rung.method is Method.LORA
    return lora_parameter_count(setting.shape, setting.request.lora) if is_lora else setting.shape.parameter_count


def whole_count(rung: Rung, setting: Setting) -> int:
    """All parameters in memory, frozen ones and adapters included."""
    adapters = trained_count(rung, setting) if rung.method is Method.LORA else 0
    return setting.shape.parameter_count + adapters


def offload_of(rung: Rung, setting: Setting) -> Offload:
    """What really leaves the device: nothing does when the device's memory is the host's."""
    return Offload.NONE if setting.kind is DeviceKind.CPU else rung.offload


def model_states(strategy: Strategy, setting: Setting) -> ModelStates:
    """2P + 2T + 12T bytes in mixed precision, P all and T trained parameters (Rajbhandari et al., ZeRO, 2020).

    Stage 1 divides the 12T by the ranks, stage 2 the gradients too, stage 3 everything, frozen weights included. Exact
    on DeepSpeed 0.19.8 but for padding and stage 3's persistent parameters (below 0.1 %).
    """
    rung, ranks = strategy.rung, setting.rank_count
    parameters_bytes = _parameters_bytes(rung, setting)
    gradients_bytes = element_bytes(rung.dtype) * trained_count(rung, setting) // (ranks if rung.zero_stage >= 2 else 1)
    optimizer_bytes = _optimizer_bytes(rung, setting)
    kept_bytes = _certain_gradients_bytes(strategy, setting)
    offload = offload_of(rung, setting)
    if offload is Offload.NONE:
        low_bytes = parameters_bytes + kept_bytes + optimizer_bytes
        return ModelStates(parameters_bytes, gradients_bytes, optimizer_bytes, 0, low_bytes)
    moved_bytes = optimizer_bytes + (gradients_bytes if rung.zero_stage >= 2 else 0)
    left_bytes = 0 if rung.zero_stage >= 2 else gradients_bytes
    if offload is Offload.ALL:
        return ModelStates(0, left_bytes, 0, moved_bytes + parameters_bytes, 0)
    return ModelStates(parameters_bytes, left_bytes, 0, moved_bytes, parameters_bytes)


def _parameters_bytes(rung: Rung, setting: Setting) -> int:
    whole_bytes = element_bytes(rung.dtype) * whole_count(rung, setting)
    return whole_bytes // setting.rank_count if rung.zero_stage >= 3 else whole_bytes


def _optimizer_bytes(rung: Rung, setting: Setting) -> int:
    is_shared = rung.dtype is Dtype.FP32 and rung.zero_stage >= 3
    each_bytes = MOMENTS_BYTES if is_shared else MASTER_AND_MOMENTS_BYTES
    return each_bytes * trained_count(rung, setting) // setting.rank_count


def _certain_gradients_bytes(strategy: Strategy, setting: Setting) -> int:
    """One rank's partition; ZeRO-1 holds all of them only while it accumulates (facts measured on DeepSpeed 0.19.8)."""
    whole_bytes = element_bytes(strategy.rung.dtype) * trained_count(strategy.rung, setting)
    is_whole = strategy.rung.zero_stage == 1 and strategy.gradient_accumulation > 1
    return whole_bytes if is_whole else whole_bytes // setting.rank_count


def _linear_shapes(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a Llama layer's linear modules, grouped-query attention included."""
    hidden, wide = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.head_count * shape.head_size, shape.key_value_head_count * shape.head_size
    return {
        "q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys), "o_proj": (queries, hidden),
        "gate_proj": (hidden, wide), "up_proj": (hidden, wide), "down_proj": (wide, hidden),
    }  # fmt: skip
