"""The traced tasks by what they are called."""

from __future__ import annotations

from collections.abc import Mapping

from autofit.domain.task import Task
from autofit.worker.trace.tasks.sft import TracedSft
from autofit.worker.trace.tasks.traced_task import TracedTask

TRACED_TASKS: Mapping[Task, TracedTask] = {
    Task.SFT: TracedSft(),
}
