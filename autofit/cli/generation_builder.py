"""How answers are generated and rewarded, as flags ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.request import Generation
from autofit.domain.task import Task

GENERATION_FLAGS = frozenset(("num_generations", "completion_tokens", "reward"))
"""Names of the parameters that are for tasks that generate answers."""

_GENERATING = " or ".join(task.value for task in Task if task.traits.generates)


def build_generation(task: Task, flags: Mapping[str, Any]) -> Generation:
    """How answers are generated; UsageError where the task generates none, and where nothing would reward them."""
    asked = {name: flags[name] for name in sorted(GENERATION_FLAGS)}
    if not task.traits.generates:
        for name, value in asked.items():
            if value not in (None, ()):
                raise UsageError(
                    f"--{name.replace('_', '-')} is for answers that are generated, and --task {task.value} generates "
                    f"none: leave it out, or ask for --task {_GENERATING}."
                )
        return Generation()
    if not asked["reward"]:
        raise UsageError(
            f"--task {task.value} needs something that rewards an answer: --reward MODULE:FUNCTION, or a reward model, "
            "--reward FOLDER or --reward ID."
        )
    completion_tokens, count = asked["completion_tokens"], asked["num_generations"] or Generation().count
    if count < 2:
        raise UsageError("--num-generations 1: answers are compared with each other, so ask for 2 at least.")
    if completion_tokens is not None and completion_tokens >= flags["seq"]:
        raise UsageError(
            f"--completion-tokens {completion_tokens} leaves no room for a prompt in --seq {flags['seq']}: "
            "prompt and answer are a sequence together."
        )
    return Generation(count, completion_tokens, asked["reward"])
