"""What direct preference optimization and Kahneman-Tversky optimization share: a frozen model beside the trained one,
and rows that are tokens already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel

from autofit.domain.event import Tell
from autofit.domain.outcome import Phase
from autofit.planning.reference import has_reference_pass, keeps_reference
from autofit.probing.protocol import Job, ProbeSpec
from autofit.worker.data.training_data import TrainingData
from autofit.worker.model.loading_bar import Hear
from autofit.worker.tasks.task_training import TaskTraining
from autofit.worker.training.job_model import device_of, pretrained_reference, random_reference
from autofit.worker.training.trainer import PhasedTrainer

_MASTERS = ("bf16_master_weights_and_grads", "bf16_optimizer_states")


class ReferencedTrainer(PhasedTrainer):
    """Stands before trl's trainer. Calls `phase_hook` before each forward pass without gradients of a training too:
    those of the reference, which come after the one of the model that trains, and such that come before it; and before
    each batch whose log-probabilities it computes beforehand."""

    prepared_column = "prompt_ids"

    def __init__(self, **kwargs: Any) -> None:
        self._masters: dict[str, Any] = {}
        super().__init__(**kwargs)
        self._engine_section.update(self._masters)
        self._has_run = False  # the forward pass that a backward pass follows
        if self.precompute_ref_logps:  # of whatever computed them nothing is needed any more
            self.ref_model = None
        for module in (self.model, self.ref_model):
            if module is not None:
                module.register_forward_pre_hook(self._hear_forward)

    def create_accelerator_and_postprocess(self) -> None:
        """Makes the accelerator, from whose configuration trl makes the reference's engine: master weights in bf16 are
        the trained one's alone, and DeepSpeed refuses them to an engine that divides nothing."""
        super().create_accelerator_and_postprocess()
        section = self._engine_section
        self._masters = {name: section.pop(name) for name in _MASTERS if name in section}

    @property
    def _engine_section(self) -> dict[str, Any]:
        """What the engines' configuration says of bf16, until it is used."""
        if not self.is_deepspeed_enabled:
            return {}
        section: dict[str, Any] = self.accelerator.state.deepspeed_plugin.deepspeed_config.get("bf16", {})
        return section

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        self._has_run = False
        return super().compute_loss(*args, **kwargs)

    def _hear_forward(self, *_: Any) -> None:
        if not self.model.training:  # an evaluation is one phase
            return
        if torch.is_grad_enabled():
            self._has_run = True
        else:
            self.phase_hook(Phase.REFERENCE if self._has_run else Phase.FORWARD)

    def compute_ref_log_probs(self, *args: Any, **kwargs: Any) -> Any:
        self.phase_hook(Phase.REFERENCE)
        return super().compute_ref_log_probs(*args, **kwargs)

    def _precompute_ref_logps(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        if any(name.startswith("ref_") for name in dataset.column_names):  # a probe's, which mean nothing
            return dataset
        computed: Dataset = super()._precompute_ref_logps(dataset, *args, **kwargs)
        return computed


class ReferencedTraining(TaskTraining):
    """A task whose trainer takes a reference."""

    def beside(
        self, job: Job, model: PreTrainedModel, data: TrainingData, *, hear: Hear, tell: Tell
    ) -> Mapping[str, Any]:
        if not keeps_reference(job.strategy.rung, job.request) and not _computes_apart(job):
            return {}
        return {"ref_model": pretrained_reference(job, device_of(job), hear=hear, tell=tell)}

    def beside_probe(self, spec: ProbeSpec, model: PreTrainedModel) -> Mapping[str, Any]:
        is_kept = keeps_reference(spec.job.strategy.rung, spec.job.request)
        return {"ref_model": random_reference(spec.job)} if is_kept else {}


def _computes_apart(job: Job) -> bool:
    """Whether a model of its own computes log-probabilities beforehand: under ZeRO-3, where the hooks of an engine that
    trl makes around the model itself would stay on it beside those of the one that trains."""
    return job.strategy.rung.zero_stage >= 3 and not has_reference_pass(job.request)
