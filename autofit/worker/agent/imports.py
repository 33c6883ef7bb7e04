"""All that a rank imports, at once, before it is forked. Nothing here may start a thread or touch a device."""

import gc

gc.disable()  # nothing that an import makes is garbage: looking for it takes a fifth to a quarter of the time

from autofit.worker.agent.unasked_devices import leave_devices_alone  # noqa: E402
from autofit.worker.deepspeed.late_compilation import import_bitsandbytes, import_muon  # noqa: E402

leave_devices_alone()
import_bitsandbytes()

import datasets  # noqa: E402
import deepspeed  # noqa: E402, F401
import peft  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers.integrations.deepspeed  # noqa: E402
import transformers.models.auto.modeling_auto  # noqa: E402, F401
import trl.trainer.sft_trainer  # noqa: E402, F401

import_muon()
datasets.disable_progress_bars()
gc.freeze()  # what is here stays: no later look need go through it, nor write to pages that forks share
gc.enable()
