"""The tasks by what they are called."""

from __future__ import annotations

from collections.abc import Mapping

from autofit.domain.task import Task
from autofit.worker.tasks.dpo import DpoTraining
from autofit.worker.tasks.kto import KtoTraining
from autofit.worker.tasks.reward import RewardTraining
from autofit.worker.tasks.sft import SftTraining
from autofit.worker.tasks.task_training import TaskTraining

TASKS: Mapping[Task, TaskTraining] = {
    Task.SFT: SftTraining(),
    Task.REWARD: RewardTraining(),
    Task.DPO: DpoTraining(),
    Task.KTO: KtoTraining(),
}
