"""What a trial depends on, but for its strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_type_hints

from autofit.domain.hardware import Hardware
from autofit.domain.model import ModelShape
from autofit.domain.request import Generation, Lora, Request
from autofit.domain.task import Task
from autofit.domain.workload import RowLengths

from .machine_kind import MachineKind
from .serialization import digest
from .versions import Versions


@dataclass(frozen=True)
class TrialKey:
    """What a trial depends on: two searches with the same `digest` would measure the same.

    The model's name, the machine's words for itself and the memory that was free do not count: they are kept to be
    told. Lengths are in tokens, the mean rounded to a whole one.
    """

    shape: ModelShape
    sequence_length: int
    global_batch: int
    lora: Lora
    extra_arguments: tuple[str, ...]
    longest_tokens: int
    mean_tokens: int
    has_evaluation: bool
    machine: MachineKind
    versions: Versions
    machine_summary: str
    device_memory_bytes: int
    task: Task = Task.SFT
    generation: Generation = field(default_factory=Generation)

    def as_fields(self) -> Mapping[str, Any]:
        """The key as files have it: without the task where it is the one that there was before there could be any."""
        written = {one.name: getattr(self, one.name) for one in fields(self)}
        if self.task is Task.SFT:
            del written["task"], written["generation"]
        return written

    @classmethod
    def field_kinds(cls) -> Mapping[str, Any]:
        """The types of what `as_fields` writes."""
        return get_type_hints(cls)

    @staticmethod
    def of(request: Request, shape: ModelShape, rows: RowLengths, hardware: Hardware, versions: Versions) -> TrialKey:
        """The key of a request whose adapters sit on the modules that it names."""
        return TrialKey(
            shape=shape,
            sequence_length=request.sequence_length,
            global_batch=request.global_batch,
            lora=request.lora,
            task=request.task,
            generation=request.generation,
            extra_arguments=request.training.extra_arguments,
            longest_tokens=rows.longest_tokens,
            mean_tokens=round(rows.mean_tokens),
            has_evaluation=request.has_evaluation,
            machine=MachineKind.of(hardware),
            versions=versions,
            machine_summary=hardware.summary,
            device_memory_bytes=hardware.device_memory_bytes,
        )

    @property
    def digest(self) -> str:
        nameless = replace(self.shape, name="")
        return digest(replace(self, shape=nameless, machine_summary="", device_memory_bytes=0))

    @property
    def request_summary(self) -> str:
        """The request in a few words: `2,048 tokens, batch 32`."""
        return f"{self.sequence_length:,} tokens, batch {self.global_batch}"
