"""Group relative policy optimization: trl's GRPOTrainer, whose answers are generated once for each optimizer step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import Sampler
from transformers import PreTrainedModel
from trl import GRPOTrainer
from trl.trainer import grpo_trainer

from autofit.domain.event import Tell
from autofit.domain.outcome import Phase
from autofit.domain.workload import BatchShape
from autofit.planning.reference import keeps_reference
from autofit.probing.protocol import Job, ProbeSpec
from autofit.worker.data.row_extents import fitting_prompts
from autofit.worker.data.training_data import TrainingData
from autofit.worker.model.loading_bar import Hear
from autofit.worker.rewards.rewards import probe_rewards, rewards
from autofit.worker.tasks.grouped_order import GroupedOrder
from autofit.worker.tasks.task_training import TaskTraining
from autofit.worker.training.checkpointing_switch import CheckpointingSwitch
from autofit.worker.training.job_model import device_of, pretrained_reference, random_reference
from autofit.worker.training.probe_rows import row_lengths
from autofit.worker.training.tiny_model import tiny_model
from autofit.worker.training.trainer import PhasedTrainer

ReadPrompt = Callable[[str], list[int]]


class GrpoTrainer(PhasedTrainer, GRPOTrainer):
    """A row of its global batch is an answer, so that as many prompts are a step as the batch has groups of answers.

    `reference` is the frozen copy from which its distance counts, where that is a model of its own. Prompts longer than
    `longest_prompt_tokens` leave no room for the longest answer, and are left out. Of a probe
    `read_prompt` gives a prompt's tokens, and an answer ends only where it may be no longer. Its rows are
    answers: the first of a group has the prompt.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        reference: PreTrainedModel | None = None,
        longest_prompt_tokens: int | None = None,
        read_prompt: ReadPrompt | None = None,
        **kwargs: Any,
    ) -> None:
        self._read_prompt = read_prompt
        self._longest_prompt_tokens = longest_prompt_tokens
        if read_prompt is not None:
            kwargs = {**kwargs, **_prompts_alone(kwargs, kwargs["args"].num_generations)}
        with _made_from_path(reference):
            super().__init__(model=model, **kwargs)
        self._embedding = model.get_input_embeddings()
        self._head = model.get_output_embeddings()
        CheckpointingSwitch(model)
        if read_prompt is not None:
            self._never_end(self._embedding.num_embeddings)

    def _never_end(self, no_token_id: int) -> None:
        """Has answers end at no token, but at their greatest length."""
        self.eos_token_ids = [no_token_id]
        self.generation_config.eos_token_id = [no_token_id]
        self.generation_kwargs["eos_token_id"] = [no_token_id]

    @property
    def _rows_per_step(self) -> int:
        return self._global_batch // int(self.args.num_generations)

    def _fill_rows(self) -> None:
        """Leaves out the prompts that are too long, and fills nothing up: those that make no whole step are left out of
        an epoch, as by trl."""
        if self._longest_prompt_tokens is None:
            return
        self.train_dataset = fitting_prompts(self, self.train_dataset, self._longest_prompt_tokens)
        self._row_count = len(self.train_dataset)
        if self.eval_dataset is not None:
            self.eval_dataset = fitting_prompts(self, self.eval_dataset, self._longest_prompt_tokens)

    def _get_train_sampler(self, dataset: Dataset | None = None) -> Sampler[int]:
        """The order of one process with the whole batch, each step's prompts as often as trl reads them."""
        is_random = self.shuffle_dataset and self.args.train_sampling_strategy == "random"
        order = super()._get_train_sampler(dataset) if is_random else range(len(self.train_dataset))
        return GroupedOrder(order, self.num_generations, self._rows_per_step, self.args.steps_per_generation)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        if self._read_prompt is None:
            return super()._tokenize_prompts(prompts)
        return [self._read_prompt(prompt) for prompt in prompts], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        """Generates; each token is a sign of life.

        What goes into the head is laid out anew: of a slice, the last token of each row, torch's product with a frozen
        weight on a CPU makes a copy of the weight for each row (`should_fold` in aten/src/ATen/native/
        LinearAlgebra.cpp, 2.13).
        """
        with contextlib.ExitStack() as stack:
            alive = self._embedding.register_forward_pre_hook(lambda *_: self.phase_hook(Phase.GENERATE))
            stack.callback(alive.remove)
            stack.callback(self._head.register_forward_pre_hook(_laid_out).remove)
            return super()._generate_single_turn(*args, **kwargs)

    def _measure(self, *args: Any) -> None:
        """Runs a micro-batch before its turn: neither is it counted, nor are its answers' tokens."""
        step: int = self._step  # type: ignore[has-type]  # trl's, which has no types
        seen = self.state.num_input_tokens_seen
        super()._measure(*args)
        self._step, self.state.num_input_tokens_seen = step, seen

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        if self.model.training and not torch.is_grad_enabled():
            self.phase_hook(Phase.REFERENCE)
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.phase_hook(Phase.REWARD)
        found: torch.Tensor = super()._calculate_rewards(*args, **kwargs)
        return found


def _laid_out(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(one.contiguous() for one in inputs)


@contextlib.contextmanager
def _made_from_path(reference: PreTrainedModel | None) -> Iterator[None]:
    """Has trl take `reference` where it would load the model's weights anew, whole and by themselves, which a model of
    random weights has none of. trl takes it as no argument."""
    makes = grpo_trainer.create_model_from_path
    grpo_trainer.create_model_from_path = lambda *_, **__: reference
    try:
        yield
    finally:
        grpo_trainer.create_model_from_path = makes


def _prompts_alone(kwargs: Mapping[str, Any], answers: int) -> dict[str, Any]:
    """A probe's rows without those that only stand for further answers to a prompt."""
    names = ("train_dataset", "eval_dataset")
    return {name: kwargs[name].select(range(0, len(kwargs[name]), answers)) for name in names}


def _nothing(completions: list[Any], **_: Any) -> list[float]:
    """Rewards nothing: beside a stand-in no answer is generated."""
    return [0.0] * len(completions)


class GrpoTraining(TaskTraining):
    trainer = GrpoTrainer

    def probe_rows(self, shapes: Sequence[BatchShape], micro_batch: int, vocabulary_size: int) -> Dataset:
        lengths = [length for shape in shapes for length in row_lengths(shape, micro_batch)]
        return Dataset.from_dict({"prompt": [str(length) for length in lengths]})

    def stand_in(self, vocabulary_size: int, **given: Any) -> Any:
        return GRPOTrainer(model=tiny_model(vocabulary_size), reward_funcs=_nothing, **given)

    def beside(
        self, job: Job, model: PreTrainedModel, data: TrainingData, *, hear: Hear, tell: Tell
    ) -> Mapping[str, Any]:
        longest_tokens = job.request.sequence_length - job.request.completion_tokens
        given = {**rewards(job, hear=hear, tell=tell), "longest_prompt_tokens": longest_tokens}
        if not keeps_reference(job.strategy.rung, job.request):
            return given
        return {**given, "reference": pretrained_reference(job, device_of(job), hear=hear, tell=tell)}

    def beside_probe(self, spec: ProbeSpec, model: PreTrainedModel) -> Mapping[str, Any]:
        vocabulary_size = model.get_input_embeddings().num_embeddings
        answer_tokens = spec.job.request.completion_tokens

        def read(text: str) -> list[int]:
            """The tokens of a probe's prompt, whose text is how long it is together with its answer."""
            return [token % vocabulary_size for token in range(max(1, int(text) - answer_tokens))]

        given = {"read_prompt": read, **probe_rewards(spec)}
        is_kept = keeps_reference(spec.job.strategy.rung, spec.job.request)
        return {**given, "reference": random_reference(spec.job)} if is_kept else given
