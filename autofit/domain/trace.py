"""What tracing the real model says of one micro-step: its tensors' bytes, moment by moment, and its work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from autofit.domain.model import ParameterGroup

from .hardware import DeviceKind
from .knobs.attention import Attention
from .knobs.dtype import Dtype
from .knobs.gradient_checkpointing import GradientCheckpointing
from .knobs.quantization import Quantization
from .outcome import Phase
from .request import Lora
from .task import Task


class SdpaKernel(str, Enum):
    """What torch's scaled_dot_product_attention can run."""

    CUDNN = "cuDNN"
    FLASH = "flash"
    EFFICIENT = "memory-efficient"
    MATH = "math"  # one operation after the other: it keeps all scores, in fp32


@dataclass(frozen=True, order=True)
class MicroStep:
    """One forward and backward pass of one micro-batch on one rank: all that a trace of a model depends on."""

    lora: Lora | None  # None: all parameters are trained
    attention: Attention
    gradient_checkpointing: GradientCheckpointing
    dtype: Dtype
    kind: DeviceKind  # whose kernels run
    micro_batch: int  # rows
    tokens: int  # width of every sequence, padding included
    is_padded: bool  # some sequence is shorter, so there really is an attention mask
    capability: tuple[int, int] | None = None  # of the GPU, where torch chooses attention's kernel by it; None: unknown
    kernel_packages: tuple[str, ...] = ()  # of those that the model calls, the installed ones
    keeps_linear_inputs: bool = False  # those of frozen linear layers, too: ZeRO-3's keep them all
    is_autocast: bool = False  # what is trained is fp32, and cast to `dtype` where autocast computes in it
    quantization: Quantization = Quantization.NONE  # of what LoRA freezes
    task: Task = Task.SFT
    completion_tokens: int = 0  # of `tokens`, those that the model generates by itself; 0: none
    generated_rows: int = 0  # that a rank generates at a time, for all micro-steps of an optimizer step
    has_reference: bool = False  # a forward pass of the frozen model, or without the adapter, follows that of the model
    compares_rows: bool = False  # both have one more before, with the rows' answers behind each other's prompts
    disables_dropout: bool = False  # the model's own is turned off

    @property
    def of_any_rows(self) -> MicroStep:
        """What it has in common with those that differ in nothing but their rows."""
        return replace(self, micro_batch=0)


@dataclass(frozen=True)
class Unbuildable:
    """A micro-step whose model cannot be built at all; one sentence says why."""

    of: MicroStep
    why: str


@dataclass(frozen=True)
class Work:
    """What a device has to do: floating-point operations of matrix products, and bytes read and written."""

    matmul_flop: int = 0  # attention kernels' products included; a multiplication and an addition are two
    matmul_bytes: int = 0
    other_bytes: int = 0  # norms, activation functions, softmax, copies
    kernel_count: int = 0
    attention_flop: int = 0  # of `matmul_flop`, what fused attention kernels compute

    def __add__(self, other: Work) -> Work:
        return Work(
            self.matmul_flop + other.matmul_flop,
            self.matmul_bytes + other.matmul_bytes,
            self.other_bytes + other.other_bytes,
            self.kernel_count + other.kernel_count,
            self.attention_flop + other.attention_flop,
        )

    def __mul__(self, factor: int) -> Work:
        return Work(
            factor * self.matmul_flop,
            factor * self.matmul_bytes,
            factor * self.other_bytes,
            factor * self.kernel_count,
            factor * self.attention_flop,
        )

    def __sub__(self, other: Work) -> Work:
        return self + other * -1


@dataclass(frozen=True)
class Moment:
    """One stretch of a micro-step: a layer's forward or backward pass, the loss, the embedding."""

    phase: Phase  # GENERATE, FORWARD, REFERENCE, BACKWARD or EVALUATE
    activations_bytes: int  # the most that tensors hold in it, but for parameters and their complete gradients
    gradient_count: int  # trained parameters whose gradient is there by its end; 0 in a forward pass
    work: Work = Work()


@dataclass(frozen=True)
class ModelTensors:
    """A model's own tensors; `buffers_bytes` are those that are no parameters, such as rotary tables."""

    parameters: tuple[ParameterGroup, ...]
    buffers_bytes: int = 0


@dataclass(frozen=True)
class Trace:
    """A trace has its `moments` in the order of time: where answers are generated, their prompts and then all of their
    tokens, at the last of which there is most; forward, the reference's forward, backward, then one evaluation
    batch."""

    of: MicroStep
    moments: tuple[Moment, ...]
    parameters: tuple[ParameterGroup, ...]
    buffers_bytes: int = 0  # tensors of the model that are no parameters, such as rotary tables
    sdpa_kernels: tuple[SdpaKernel, ...] = ()  # those that ran, where torch chose among several

    @property
    def parameter_count(self) -> int:
        return sum(group.element_count * group.tensor_count for group in self.parameters)

    @property
    def trained_count(self) -> int:
        return sum(group.element_count * group.tensor_count for group in self.parameters if group.is_trained)
