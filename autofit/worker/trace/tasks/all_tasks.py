"""The traced tasks by what they are called."""

from __future__ import annotations

from collections.abc import Mapping

from autofit.domain.task import Task
from autofit.worker.trace.tasks.dpo import TracedDpo
from autofit.worker.trace.tasks.kto import TracedKto
from autofit.worker.trace.tasks.reward import TracedReward
from autofit.worker.trace.tasks.sft import TracedSft
from autofit.worker.trace.tasks.traced_task import TracedTask

TRACED_TASKS: Mapping[Task, TracedTask] = {
    Task.SFT: TracedSft(),
    Task.REWARD: TracedReward(),
    Task.DPO: TracedDpo(),
    Task.KTO: TracedKto(),
}
