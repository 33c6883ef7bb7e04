"""Predicted memory of a strategy on one device and on one node's host."""

from __future__ import annotations

from autofit.domain.estimate import HostEstimate, MemoryEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Strategy

from .activations import HIGH_FACTOR, activations_bytes
from .buffers import PLAIN_STEP_BYTES, buffer_bytes, step_bytes
from .setting import Setting
from .states import ModelStates, element_bytes, model_states

FRAGMENTATION = 1.08
"""Reserved by allocated bytes at worst, in a replay of CUDA's caching allocator."""

COMMUNICATOR_BYTES = 1_000_000_000
"""NCCL's buffers at most (0.5 to 0.7 GB a group on 4 × A100), with the context's spread on top."""


def estimate_memory(strategy: Strategy, setting: Setting) -> MemoryEstimate:
    """The breakdown at the peak. Low: the model states that are certainly there. High: generous, not a proof.

    Parts other than activations are within a few per cent of DeepSpeed 0.19.8; see `activations_bytes` for the rest.
    """
    states = model_states(strategy, setting)
    forward_bytes = activations_bytes(strategy, setting)
    # The step comes when the activations are gone: only what it takes beyond them raises the peak.
    extra_bytes = max(0, step_bytes(strategy, setting) - forward_bytes)
    return MemoryEstimate(
        parameters_bytes=states.parameters_bytes,
        gradients_bytes=states.gradients_bytes,
        optimizer_bytes=states.optimizer_bytes,
        activations_bytes=forward_bytes,
        buffers_bytes=buffer_bytes(strategy, setting) + extra_bytes,
        runtime_bytes=setting.runtime_bytes,
        low_bytes=states.low_bytes,
        high_bytes=_high_bytes(strategy, setting, states),
        host=HostEstimate(0, 0, _host_bytes(strategy, setting, states)),
    )


def offloaded_bytes(strategy: Strategy, setting: Setting) -> int:
    """What all ranks of the fullest node keep in host memory throughout."""
    return setting.ranks_per_node * model_states(strategy, setting).offloaded_bytes


def _high_bytes(strategy: Strategy, setting: Setting, states: ModelStates) -> int:
    moving_bytes = max(
        HIGH_FACTOR * activations_bytes(strategy, setting), step_bytes(strategy, setting, PLAIN_STEP_BYTES)
    )
    states_bytes = states.parameters_bytes + states.gradients_bytes + states.optimizer_bytes
    tensors_bytes = states_bytes + buffer_bytes(strategy, setting) + moving_bytes
    communicator_bytes = COMMUNICATOR_BYTES if setting.is_divided and setting.kind is DeviceKind.CUDA else 0
    return round(FRAGMENTATION * tensors_bytes) + setting.runtime_bytes + communicator_bytes


def _host_bytes(strategy: Strategy, setting: Setting, states: ModelStates) -> int:
    """One node. Loading ends before anything is offloaded, so the larger of both counts, not their sum."""
    weights_bytes = element_bytes(strategy.rung.dtype) * setting.shape.parameter_count
    return setting.ranks_per_node * max(weights_bytes, states.offloaded_bytes)
