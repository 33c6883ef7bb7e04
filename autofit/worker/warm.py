"""The fork server: one process that has imported everything, from which every rank is forked."""

from __future__ import annotations

import importlib
import multiprocessing
import os
from multiprocessing.context import ForkServerContext

from autofit.worker.lines import LineReader, wait_or_interrupt

PRELOAD = (
    "autofit.worker.preload",
    "autofit.worker.probe",
    "autofit.worker.script",
    "autofit.worker.survey",
    "autofit.worker.trace",
)


def start_fork_server(modules: tuple[str, ...], commands: LineReader) -> ForkServerContext:
    """The context whose processes are forked warm, once it is warm; Interrupted when `commands` end meanwhile."""
    # torch must not initialize CUDA in the server: its children could not use it any more.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compilers in a process that forks
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    first = context.Process(target=_check_imports, args=(modules,), daemon=True)
    first.start()
    wait_or_interrupt([first.sentinel], commands)
    first.join()
    if first.exitcode != 0:
        raise RuntimeError(f"the worker's modules could not be imported; see the log ({', '.join(modules)})")
    return context


def _check_imports(modules: tuple[str, ...]) -> None:
    """In a child: the fork server swallows the errors of a preload, here they are raised."""
    for module in modules:
        importlib.import_module(module)
