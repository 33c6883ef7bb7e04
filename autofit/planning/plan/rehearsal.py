"""Rehearsals: how many run side by side, and what a probe with all ranks would say after one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autofit.domain.estimate import Estimate
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.outcome import Measured
from autofit.domain.trial import Trial
from autofit.planning.plain_torch import communicator_bytes
from autofit.planning.setting import Setting


def how_many(estimates: Sequence[Estimate], setting: Setting, here: Hardware) -> int:
    """How many of the strategies with these estimates run side by side on this node of `here`, one a device.

    As many as its free host memory holds of the most demanding one; 1 at least, for none can ask for less.
    """
    node = here.nodes[0]
    most_bytes = max((_host_bytes(estimate, setting, here) for estimate in estimates), default=1)
    held = node.host.memory_available_bytes // max(1, most_bytes)
    return max(1, min(len(node.devices), len(estimates), held))


def _host_bytes(estimate: Estimate, setting: Setting, here: Hardware) -> int:
    """One rank's share of its node's memory; on a CPU that is where its device's memory lies too."""
    share_bytes = estimate.memory.host_bytes // setting.ranks_per_node
    if here.kind is DeviceKind.CUDA:
        return share_bytes
    return max(share_bytes, min(estimate.memory.high_bytes, here.device_memory_bytes))


def as_probe(trial: Trial, setting: Setting) -> Measured:
    """What all ranks of `setting` would show after a rehearsal that was measured: its figures and, from the estimates,

    - on each device the communicator's buffers;
    - in host memory the other ranks of a node, each like rank 0, which saves: errs high by what the saving took;
    - in time the communication that computation does not hide. Where nothing is known of the device's rates, as large
      a share of the other parts as in the estimate. No rank is slower than rank 0: errs low by their spread.
    """
    assert isinstance(trial.outcome, Measured)
    measured = trial.outcome
    exposed_s = _communication_s(trial.estimate, measured)
    step_s = measured.step_s + exposed_s
    # ZeRO-1 reduces gradients at the end of a step, the other stages in every micro-batch.
    at_end_s, in_each_s = (exposed_s, 0.0) if trial.strategy.rung.zero_stage <= 1 else (0.0, exposed_s)
    return replace(
        measured,
        peak_device_bytes=measured.peak_device_bytes + communicator_bytes(trial.strategy.rung, setting),
        peak_host_bytes=measured.peak_host_bytes * setting.ranks_per_node,
        tokens_per_s=measured.tokens_per_s * measured.step_s / step_s,
        step_s=step_s,
        micro_step_s=measured.micro_step_s + in_each_s / trial.strategy.gradient_accumulation,
        update_s=measured.update_s + at_end_s,
    )


def _communication_s(estimate: Estimate, measured: Measured) -> float:
    speed = estimate.speed
    if speed.is_absolute:
        return speed.communication_s
    return measured.step_s * speed.communication_s / (speed.step_s - speed.communication_s)
