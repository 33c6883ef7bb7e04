"""What stands in a DeepSpeed engine as its optimizer, where ZeRO-3 divides the parameters and nothing else is kept.

An engine that is made without an optimizer has a `DeepSpeedZeRoOffload` there: ZeRO-3's parameters with no gradients,
master weights or states. It trains once something answers what the engine asks its optimizer for (DeepSpeed 0.19.8,
`runtime/engine.py`), and the engine has been told how to save, which it leaves out without an optimizer.
"""

from __future__ import annotations

from typing import Any

import torch
from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload

from .fused_optimizer import check_own
from .partitioned import PartitionedOptimizer


class EngineOptimizer:
    """The engine's side of `updates`. `divided` is what the engine has made."""

    overflow = False  # bf16 and fp32 have the same range: no step is skipped

    def __init__(self, engine: Any, divided: DeepSpeedZeRoOffload, updates: PartitionedOptimizer) -> None:
        self.parameter_offload = (
            divided  # by the name of DeepSpeed's own optimizer: trl turns its hooks off to generate
        )
        self.updates = updates
        self.dp_process_group = updates.group = engine.seq_data_parallel_group
        self.fp16_groups = [updates.parameters]  # whatever their dtype is
        self.param_groups = updates.param_groups
        self._global_grad_norm = 0.0

    @staticmethod
    def attach(engine: Any, updates: PartitionedOptimizer) -> EngineOptimizer:
        """Puts one into an engine that was made without an optimizer, and has it train and save."""
        made = EngineOptimizer(engine, engine.optimizer, updates)
        engine.optimizer = engine.basic_optimizer = made
        engine._configure_checkpointing()
        return made

    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None:
        self.updates.is_boundary = is_boundary

    def overlapping_partition_gradients_reduce_epilogue(self) -> None:
        """Ends a backward pass."""
        self.parameter_offload.release_backward_leftovers()
        self.updates.end_backward()

    def step(self) -> None:
        # It is a number of the host: all updates are made by now, before another stream gathers what they have written.
        self._global_grad_norm = self.updates.gradient_norm
        self.updates.step()
        self._gather_anew()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """No gradient is left."""

    def _gather_anew(self) -> None:
        """Has those parameters that are small enough to be whole on every rank be so with their new values."""
        self.parameter_offload.partition_all_parameters()
        whole = self.parameter_offload.persistent_parameters
        if whole:
            whole[0].all_gather(whole)

    def checkpoint_event_prologue(self) -> None:
        self.parameter_offload.partition_all_parameters()

    def checkpoint_event_epilogue(self) -> None:
        self._gather_anew()

    def empty_partition_cache(self) -> None:
        self.parameter_offload.empty_partition_cache()

    def state_dict(self) -> dict[str, Any]:
        """This rank's file of a checkpoint, as DeepSpeed's own zero_to_fp32 reads it too: its parts of all parameters,
        end to end, in the dtype in which they are trained and on the host."""
        return {
            "zero_stage": 3,
            "partition_count": torch.distributed.get_world_size(self.dp_process_group),
            "fp32_flat_groups": [self._flat_weights()],
            "updates": self.updates.state_dict(),
        }

    def _flat_weights(self) -> torch.Tensor:
        parts = [_part(parameter) for parameter in self.updates.parameters]
        flat = torch.empty(sum(part.numel() for part in parts), dtype=parts[0].dtype)
        for place, part in zip(flat.split([part.numel() for part in parts]), parts, strict=True):
            place.copy_(part)
        return flat

    def load_state_dict(self, state_dict_list: list[dict[str, Any]], **options: Any) -> None:
        """Goes on from this rank's file, the one of `state_dict_list` in its place."""
        state = state_dict_list[torch.distributed.get_rank(self.dp_process_group)]
        check_own(state.get("updates", {}))
        (flat,) = state["fp32_flat_groups"]
        parts = [_part(parameter) for parameter in self.updates.parameters]
        for place, part in zip(flat.split([part.numel() for part in parts]), parts, strict=True):
            part.copy_(place)
        if options.get("load_optimizer_states", True):
            self.updates.load_state_dict(state["updates"])
        self._gather_anew()


def _part(parameter: Any) -> torch.Tensor:
    """This rank's part of a parameter, with what pads the last one."""
    part: torch.Tensor = parameter.ds_tensor.detach()
    return part.view(-1)
