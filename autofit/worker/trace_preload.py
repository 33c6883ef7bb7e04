"""What tracing needs, imported once in a fork server that does nothing else: no DeepSpeed, no trainer."""

from autofit.worker.python_main import leave_directory
from autofit.worker.rank import die_with_parent

leave_directory()
die_with_parent()  # before anything slow: a fork server in the middle of an import would outlive its agent

import autofit.worker.trace  # noqa: E402
import autofit.worker.tracers  # noqa: E402, F401
