"""Whether a model that was found scores answers already, and where it may be named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autofit.domain.errors import UsageError
from autofit.domain.task import Task

from .model_config import Config

if TYPE_CHECKING:
    from .found_model import ModelFiles

_CLASSIFIER = "ForSequenceClassification"
_AUTO_CLASS = "AutoModelForSequenceClassification"  # by which code beside the weights offers one
_USUAL_LABELS = 2  # where config.json is silent (transformers' PretrainedConfig)


def score_count(config: Config) -> int | None:
    """The numbers that the head of a model gives for a text, by its config.json; None where it has another head."""
    architectures = [str(architecture) for architecture in config.get("architectures") or ()]
    own = config.get("auto_map") or {}
    if not any(one.endswith(_CLASSIFIER) for one in architectures) and (architectures or _AUTO_CLASS not in own):
        return None
    return int(config.get("num_labels") or len(config.get("id2label") or ()) or _USUAL_LABELS)


def check_trainable(found: ModelFiles, task: Task) -> None:
    """Checks that the head of a model is one that the task goes on from; UsageError with what to do instead. A model
    without scores gets a new head where the task scores."""
    if found.score_count is None:
        return
    if not task.traits.scores:
        raise UsageError(
            f"{found.path_or_id} is a model that scores texts ({_CLASSIFIER}), not a causal language model: train on "
            "with --task reward, or choose one whose config.json names an architecture that ends in ForCausalLM."
        )
    _check_single(found.path_or_id, found.score_count)


def check_reward(found: ModelFiles) -> None:
    """Checks that a model can reward answers; UsageError where its head was never trained to."""
    if found.score_count is None:
        raise UsageError(
            f"--reward {found.path_or_id} is no reward model, for its config.json names no architecture that ends in "
            f"{_CLASSIFIER}: train one of it with --task reward, or name another."
        )
    _check_single(f"--reward {found.path_or_id}", found.score_count)


def _check_single(name: str, count: int) -> None:
    if count != 1:
        raise UsageError(
            f"{name} is a classifier of {count} labels, and a reward model gives one number: choose a model whose "
            "config.json says num_labels 1, or a causal language model to train one of."
        )
