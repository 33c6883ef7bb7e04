"""A rank of the full run of the user's own script, where something is turned within its process or memory is capped.

DeepSpeed's launcher starts it as a module: `[--local_rank=N] ENTRY SCRIPT [ARGUMENTS]`. It does what it must and
becomes the script: nobody is told anything, and an error looks as it would without it.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from autofit.domain.hardware import DeviceKind
from autofit.planning.probe_steps import MEMORY_STEPS
from autofit.probing.protocol import ScriptEntry, read_entry
from autofit.worker.script import python_main

if TYPE_CHECKING:
    from autofit.worker.rank.memory_meter import Meter

_DOOR = str(Path(__file__).parents[1] / "entry.py")
_OURS = {__file__, _DOOR, python_main.__file__, runpy.__file__, "<frozen runpy>"}
ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def main() -> None:
    python_main.leave_directory()
    words = sys.argv[1:]
    local_rank = [words.pop(0)] if words[0].startswith("--local_rank") else []
    entry, name, arguments = read_entry(words[0]), words[1], words[2:]
    if not entry.is_module and not os.path.exists(name):
        print(
            f"{sys.executable}: can't open file {os.path.abspath(name)!r}: [Errno 2] No such file or directory",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.excepthook = _from_the_script_on(sys.excepthook)
    if entry.memory_limit_bytes is not None or not entry.turns.is_nothing:
        _hook(entry)
    python_main.run_as_main(name, [*local_rank, *arguments], is_module=entry.is_module)


def _hook(entry: ScriptEntry) -> None:
    limit_bytes = entry.memory_limit_bytes
    meter = None if limit_bytes is None else _capped(entry.kind, limit_bytes)
    from autofit.worker.deepspeed.engine_hook import EngineCall, hook_engines
    from autofit.worker.deepspeed.engine_watch import StepListener, StepWatch
    from autofit.worker.rank.extension_builds import wait_for_builders
    from autofit.worker.rank.seldom import Seldom
    from autofit.worker.script.runtime_patches import apply_patches

    class Marks(StepListener):
        """What a probe does at its optimizer steps."""

        def __init__(self, meter: Meter, limit_bytes: int) -> None:
            self._meter, self._limit_bytes, self._step_count = meter, limit_bytes, 0
            self._mark_seldom = Seldom(meter.mark)

        def update(self) -> None:
            (self._meter.mark if self._step_count < MEMORY_STEPS else self._mark_seldom)()

        def step_end(self, *, was_skipped: bool) -> None:
            self._step_count += not was_skipped
            if self._step_count == MEMORY_STEPS and not was_skipped:
                self._meter.keep_freed(self._limit_bytes)

    def before(call: EngineCall) -> None:
        if meter is not None:
            meter.mark()
        apply_patches(call.model, entry.turns, zero_stage=call.config.zero_optimization_stage)

    def after(engine: Any) -> None:
        if meter is not None and limit_bytes is not None:
            StepWatch(engine, Marks(meter, limit_bytes))

    wait_for_builders()
    hook_engines(before, after)


def _capped(kind: DeviceKind, limit_bytes: int) -> Meter:
    """Caps this rank's memory by the meter that it returns."""
    from autofit.worker.rank.heap import give_back_at_once
    from autofit.worker.rank.memory_meter import meter

    if kind is DeviceKind.CPU:
        give_back_at_once()
    import autofit.worker.agent.preload  # noqa: F401  (before the rank's memory is first looked at, as in a probe)

    capped = meter(kind.value)
    capped.cap(limit_bytes)
    return capped


def _from_the_script_on(hook: ExceptHook) -> ExceptHook:
    """Leaves out of a traceback what is not the script's."""

    def shown(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        while traceback is not None and traceback.tb_frame.f_code.co_filename in _OURS:
            traceback = traceback.tb_next
        hook(kind, error.with_traceback(traceback), traceback)

    return shown


if __name__ == "__main__":
    main()
