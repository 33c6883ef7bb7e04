"""What every rank needs, imported once in the fork server. Nothing here may start a thread or touch a device."""

import os

from autofit.worker.rank.lifecycle import die_with_parent
from autofit.worker.script.python_main import leave_directory

leave_directory()
die_with_parent()  # before anything slow: a fork server in the middle of an import would outlive its agent

import autofit.worker.agent.imports  # noqa: E402, F401
from autofit.worker.rank.extension_builds import wait_for_builders  # noqa: E402

wait_for_builders()

if os.environ.get("DS_ACCELERATOR") == "cpu":
    # DeepSpeed compiles its shared-memory collectives at first use and asks ninja again in every process; loaded here,
    # every rank has them at once.
    from deepspeed.comm.torch import build_shm_op

    build_shm_op()
