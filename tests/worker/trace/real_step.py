"""The micro-step that a trace tells of, with real weights on the CPU, and what its allocator hands out meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import PretrainedConfig, PreTrainedModel

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.trace import MicroStep, Moment
from autofit.worker.model.loading import build_model
from autofit.worker.model.quantization import bits_config, settle
from autofit.worker.model.random_weights import quantized_model
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES
from autofit.worker.trace.fake_model import built_dtype, prepare
from autofit.worker.trace.tasks.all_tasks import TRACED_TASKS

PLAIN = MicroStep(None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CPU, 2, 128, False)
_FEW_TOKENS = 16
RANDOM_STATE_BYTES = 5056  # of the CPU's generator; checkpointing keeps one a layer, and the trace does not see it


def peak_bytes(moments: tuple[Moment, ...]) -> int:
    return max(moment.activations_bytes for moment in moments)


@dataclass
class RealStep:
    """The same model with real weights on the CPU; its gradients are dropped as they come, as DeepSpeed takes them."""

    config: PretrainedConfig
    step: MicroStep

    def __post_init__(self) -> None:
        config = copy.deepcopy(self.config)
        config.use_cache = False
        self.model = prepare(self._built(config), self.step)
        self.reference = self._referred(config)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda taken: setattr(taken, "grad", None))

    def _built(self, config: PretrainedConfig) -> PreTrainedModel:
        dtype, attention = TORCH_DTYPES[built_dtype(self.step)], self.step.attention
        scores = self.step.task.traits.scores
        bits = bits_config(self.step.quantization, dtype)
        if bits is None:
            return build_model(config, dtype=dtype, attention=attention, scores=scores)
        model = quantized_model(config, bits, dtype=dtype, attention=attention, device=torch.device("cpu"))
        settle(model, dtype)
        return model

    def _referred(self, config: PretrainedConfig) -> PreTrainedModel | None:
        if not self.step.has_reference or self.step.lora is not None:
            return None
        model = build_model(config, dtype=TORCH_DTYPES[self.step.dtype], attention=self.step.attention)
        TRACED_TASKS[self.step.task].prepare_reference(model)
        frozen: PreTrainedModel = model.eval().requires_grad_(False)
        return frozen

    def warm_up(self) -> None:
        """Makes what is made once and kept, which few tokens do as well as many."""
        self._loss(replace(self.step, tokens=_FEW_TOKENS)).backward()

    def train(self) -> None:
        self._loss(self.step).backward()

    def evaluate(self) -> None:
        with torch.no_grad():
            self._loss(self.step)

    def _loss(self, step: MicroStep) -> torch.Tensor:
        task, vocabulary_size = TRACED_TASKS[self.step.task], self.config.get_text_config().vocab_size
        batch = task.batch(step)
        for name, tensor in batch.items():
            if name.endswith(("input_ids", "labels")):
                batch[name] = torch.randint(0, vocabulary_size, tensor.shape)
            elif name.endswith("attention_mask") and step.is_padded:
                tensor[:, -1] = 0
        return task.loss(self.model, batch, self.reference)


def allocated_bytes(act: Callable[[], None]) -> int:
    """The most that the CPU allocator had handed out at once, above what it had at the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        act()
    recorded = profiled.profiler.kineto_results.events()
    events = sorted((event for event in recorded if event.name() == "[memory]"), key=lambda event: event.start_ns())
    held_bytes = most_bytes = 0
    for event in events:
        held_bytes += event.nbytes()
        most_bytes = max(most_bytes, held_bytes)
    return most_bytes


def peak_without_states(config: PretrainedConfig, step: MicroStep) -> int:
    """The peak of a real micro-step, without the random states that a layer which is computed again keeps."""
    real = RealStep(config, step)
    real.model.train()
    real.warm_up()
    is_again = step.gradient_checkpointing is GradientCheckpointing.ON
    kept_bytes = RANDOM_STATE_BYTES * config.num_hidden_layers if is_again else 0
    return allocated_bytes(real.train) - kept_bytes
