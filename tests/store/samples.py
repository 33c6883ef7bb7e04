"""Values to remember."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.model import ParameterGroup
from autofit.domain.outcome import Phase
from autofit.domain.request import Lora
from autofit.domain.trace import MicroStep, Moment, Trace, Work
from autofit.store.trial_key import TrialKey
from autofit.store.versions import Versions
from tests.report import simulated

VERSIONS = Versions("2.13", "5.23", "0.21", "1.16", "0.19")
KEY = TrialKey.of(simulated.REQUEST, simulated.SHAPE, simulated.PROFILE.lengths, simulated.HARDWARE, VERSIONS)
TRIALS = simulated.TRIALS
STEP = MicroStep(Lora(8), Attention.SDPA, GradientCheckpointing.ON, Dtype.BF16, DeviceKind.CUDA, 1, 2048, False)


def trace(micro_batch: int, moment_count: int = 70) -> Trace:
    work = Work(8_796_093_022_208, 1_234_567_890, 987_654_321, 37)
    moments = tuple(Moment(Phase.BACKWARD, 3_000_000_000 + 17 * i, i, work) for i in range(moment_count))
    groups = (ParameterGroup(16_777_216, 128, False, 2), ParameterGroup(262_144, 128, True, 4))
    return Trace(replace(STEP, micro_batch=micro_batch), moments, groups, 524_288)
