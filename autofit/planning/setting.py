"""Everything but the strategy that a formula needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from autofit.domain.estimate import Constants
from autofit.domain.hardware import Device, DeviceKind, Hardware
from autofit.domain.knobs.knob import Conditions
from autofit.domain.knobs.last_resort import LastResort
from autofit.domain.model import Lacking, ModelFacts, ModelShape, ParameterGroup
from autofit.domain.request import Lora, Request
from autofit.domain.trace import ModelTensors, Trace, Unbuildable

from .asked_once import AskedOnce
from .optimizer_split import OptimizerSplit
from .optimizer_states import ADAM_MOMENTS
from .prior_constants import prior
from .zero_sizes import ZeroSizes, zero_sizes


@dataclass(frozen=True)
class Setting(AskedOnce):
    """One request for one model on one machine.

    `worst_tokens` is the longest row that the data can bring and `mean_tokens` the mean of its rows, both in tokens;
    `is_padded` tells whether sequences differ in length. `traces` may lack some micro-steps: the closed form stands in.
    `installed` are the optional packages that the training will find, as pip names them.
    `tensors` are those of a model that nobody traces, such as a script's; None: the traces tell.
    """

    request: Request
    hardware: Hardware
    shape: ModelShape
    worst_tokens: int
    is_padded: bool = False
    mean_tokens: float | None = None  # None: all rows are `worst_tokens` long
    traces: tuple[Trace, ...] = ()
    known_constants: Constants | None = None  # None: nothing was fitted on this kind of device yet
    installed: frozenset[str] = frozenset()
    has_exact_pins: bool = True  # torch pins large blocks of host memory as they are, without rounding them up
    moment_count: int = ADAM_MOMENTS  # fp32 numbers that the optimizer keeps of each trained parameter
    tensors: ModelTensors | None = None
    is_surveyed: bool = True  # False: only probes tell how many of a row's tokens are real, as of a script's
    rehearsal_count: int = 0  # how many may run side by side before the first probe; below 2: none
    facts: ModelFacts | None = None  # None: the model's class was not asked
    unbuildable: tuple[Unbuildable, ...] = ()  # found while tracing: rungs like these are left out
    lacking: tuple[Lacking, ...] = ()  # beside what the model's class lacks: what a script is not turned to
    resort: LastResort | None = None  # how far the last resorts are tried beside what is allowed
    bucket_elements: int | None = None  # of ZeRO's reduce bucket; None: not sized for a strategy yet
    reward_models: tuple[ModelShape, ...] = ()  # that score answers
    gathers_generation: bool = True  # a model that ZeRO-3 divides is whole while it generates
    split: OptimizerSplit | None = None  # of ZeRO-3's optimizer, between device and host; None: not divided

    @property
    def output_count(self) -> int:
        """The numbers that the model's head gives for each token."""
        return 1 if self.request.task.traits.scores else self.shape.vocabulary_size

    @property
    def is_script(self) -> bool:
        """Whether somebody else's script trains, with an engine of its own: nobody traces its model."""
        return self.tensors is not None

    @cached_property
    def kind(self) -> DeviceKind:
        return self.hardware.kind

    @cached_property
    def conditions(self) -> Conditions:
        """What decides which values of the knobs can be used."""
        of_model = self.facts.lacking if self.facts is not None else ()
        return Conditions(self.hardware, self.installed, (*of_model, *self.lacking))

    @cached_property
    def device(self) -> Device:
        """The first of the devices: the constants are those of its kind."""
        return self.hardware.devices[0]

    @cached_property
    def capability(self) -> tuple[int, int] | None:
        """The least compute capability of its GPUs; None for CPU ranks, and where one is unknown."""
        found = [device.compute_capability for device in self.hardware.devices]
        known = [capability for capability in found if capability is not None]
        return min(known) if len(known) == len(found) else None

    @cached_property
    def known_parameters(self) -> Mapping[Lora | None, tuple[ParameterGroup, ...]]:
        """The parameters that were counted, traced or seen, by what LoRA adds."""
        if self.tensors is not None:
            return {None: self.tensors.parameters}
        known = {trace.of.lora: trace.parameters for trace in self.traces}
        if self.facts is not None:
            known[None] = self.facts.parameters
            if self.facts.adapted:
                known[self.request.lora] = self.facts.adapted
        return known

    @property
    def called_packages(self) -> tuple[str, ...]:
        """The optional packages whose kernels the model's code calls where they are installed; a CPU runs none."""
        return () if self.facts is None or self.kind is DeviceKind.CPU else self.facts.kernel_packages

    @property
    def lora(self) -> Lora:
        """The request's adapters by the modules that they really sit on, where these are known."""
        if self.facts is None or not self.facts.lora_targets:
            return self.request.lora
        return replace(self.request.lora, target_modules=self.facts.lora_targets, exclude_modules=())

    @property
    def buffers_bytes(self) -> int:
        """The bytes of the model's tensors that are no parameters; 0 where nobody has seen them."""
        if self.tensors is not None:
            return self.tensors.buffers_bytes
        return self.traces[0].buffers_bytes if self.traces else 0

    @cached_property
    def zero_sizes(self) -> ZeroSizes:
        """The sizes of ZeRO's buckets, which are Hugging Face's "auto" until one was sized."""
        return zero_sizes(self.shape.hidden_size, self.bucket_elements)

    @cached_property
    def constants(self) -> Constants:
        return self.known_constants or self.prior_constants

    @cached_property
    def prior_constants(self) -> Constants:
        """What is believed of its device before any trial."""
        return prior(self.device)

    @property
    def runtime_bytes(self) -> int:
        """The bytes that are taken on a device before the model is built."""
        return self.constants.runtime_bytes

    @cached_property
    def rank_count(self) -> int:
        return self.hardware.rank_count

    @property
    def ranks_per_node(self) -> int:
        """The ranks of the fullest node: its host memory is the first to run out."""
        return max(len(node.devices) for node in self.hardware.nodes)

    @cached_property
    def device_memory_bytes(self) -> int:
        return self.hardware.device_memory_bytes

    @cached_property
    def host_available_bytes(self) -> int:
        return self.hardware.host_available_bytes

    @property
    def is_divided(self) -> bool:
        """Whether ZeRO has more than one rank to divide anything over."""
        return self.rank_count > 1
