"""What tracing needs, imported once in a fork server that does nothing else: no DeepSpeed, no trainer."""

import gc

from autofit.worker.rank.lifecycle import die_with_parent
from autofit.worker.script.python_main import leave_directory

leave_directory()
die_with_parent()  # before anything slow: a fork server in the middle of an import would outlive its agent

gc.disable()  # as in agent/imports.py

from autofit.worker.agent.unasked_devices import leave_devices_alone  # noqa: E402

leave_devices_alone()

import autofit.worker.agent.trace_process  # noqa: E402
import autofit.worker.model.description  # noqa: E402
import autofit.worker.trace.micro_step_trace  # noqa: E402, F401

gc.freeze()
gc.enable()
