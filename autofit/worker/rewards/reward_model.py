"""A reward model beside the model that trains: loaded, frozen, on each rank as the rung divides it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autofit.domain.event import Tell
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.request import Generation, Reward
from autofit.domain.task import Task
from autofit.probing.protocol import Job
from autofit.worker.model.loading import load_tokenizer
from autofit.worker.model.loading_bar import Hear
from autofit.worker.training.job_model import device_of, pretrained_reference, random_reference


def reward_model(job: Job, reward: Reward, *, hear: Hear, tell: Tell) -> PreTrainedModel:
    """The model with its weights, in the dtype in which the rung computes."""
    return pretrained_reference(_scoring(job, reward), device_of(job), hear=hear, tell=tell)


def reward_tokenizer(job: Job, reward: Reward) -> PreTrainedTokenizerBase:
    return load_tokenizer(reward.source, trust_remote_code=job.request.trust_remote_code)


def random_reward_model(job: Job, reward: Reward) -> PreTrainedModel:
    """The same of random weights, for a probe."""
    return random_reference(_scoring(job, reward))


def _scoring(job: Job, reward: Reward) -> Job:
    """The job as if it trained the reward model: whole weights and a head that scores."""
    request = replace(job.request, model=reward.source, task=Task.REWARD, generation=Generation())
    rung = replace(
        job.strategy.rung,
        method=Method.FULL,
        quantization=Quantization.NONE,
        gradient_checkpointing=GradientCheckpointing.OFF,
    )
    return replace(job, request=request, strategy=replace(job.strategy, rung=rung))


@dataclass
class LongestTexts:
    """Stands for a reward model's tokenizer in a probe: each text is as long as a prompt with its answer can be."""

    tokens: int
    pad_token_id: int = 0

    def __call__(self, *, text: list[str], **_: object) -> dict[str, torch.Tensor]:
        ids = torch.ones(len(text), self.tokens, dtype=torch.int64)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
