"""What a training writes to its disk: a checkpoint, by the files of transformers 5.23 and DeepSpeed 0.19.8, and the
trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.method import Method
from autofit.domain.strategy import Rung
from autofit.planning.argument_words import values_of
from autofit.planning.memory.states import factored_bytes, moments_bytes, optimizer_bytes, part_count
from autofit.planning.parameters import Parameters, parameters
from autofit.planning.plain_torch import is_plain, trained_bytes
from autofit.planning.setting import Setting

KEPT_COUNT = 2
"""The checkpoints that are kept where the user sets no limit."""

_RANK_BYTES = 15_000  # a rank's random states
_FIXED_BYTES = 16_000  # the trainer's own state and arguments, and configurations
_ENGINE_RANK_BYTES = 12_000  # what DeepSpeed says of shapes and settings beside a rank's tensors
_ENGINE_BYTES = 50_000  # its scripts
_MODEL_BYTES = 7_000  # the model's configurations


@dataclass(frozen=True)
class WrittenSize:
    """Bytes of one checkpoint, nothing where none is saved, and of the trained model; `most_count` checkpoints lie
    there at once, the one that is being written among them."""

    checkpoint_bytes: int
    model_bytes: int
    most_count: int

    @property
    def least_bytes(self) -> int:
        """What the training cannot do without: one checkpoint, and the model."""
        return self.checkpoint_bytes + self.model_bytes

    @property
    def most_bytes(self) -> int:
        return self.most_count * self.checkpoint_bytes + self.model_bytes


def written_size(rung: Rung, setting: Setting, tokenizer_bytes: int) -> WrittenSize:
    """What the training of a rung writes, of which `tokenizer_bytes` are the tokenizer's files: within 4 % of what
    DeepSpeed 0.19.8 and transformers 5.23 wrote of a model of 0.2 M parameters, where headers and settings weigh most.
    """
    known, words = parameters(rung, setting), setting.request.training.extra_arguments
    model_bytes = _weights_bytes(rung, known, element_bytes(rung.dtype)) + _MODEL_BYTES + tokenizer_bytes
    if [*values_of(words, "save_strategy")][-1:] == ["no"]:
        return WrittenSize(0, model_bytes, 0)
    state_bytes = _plain_bytes(rung, setting) if is_plain(rung, setting) else _engine_bytes(rung, setting, known)
    weights_bytes = _weights_bytes(rung, known, trained_bytes(rung, setting))
    beside_bytes = _RANK_BYTES * setting.rank_count + _FIXED_BYTES + tokenizer_bytes
    return WrittenSize(weights_bytes + state_bytes + beside_bytes, model_bytes, _kept_count(words) + 1)


def _kept_count(words: Sequence[str]) -> int:
    """The checkpoints that are kept: autofit's limit, or the user's."""
    said = [*values_of(words, "save_total_limit")][-1:]
    return int(said[0]) if said and said[0].isdigit() else KEPT_COUNT


def _weights_bytes(rung: Rung, known: Parameters, trained_width_bytes: int) -> int:
    """The file of the weights: an adapter's alone, or the whole model's."""
    frozen_bytes = 0 if rung.method is Method.LORA else element_bytes(rung.dtype) * known.frozen_count
    return trained_width_bytes * known.trained_count + frozen_bytes


def _plain_bytes(rung: Rung, setting: Setting) -> int:
    """The optimizer's one file, without an engine: its moments; the weights themselves are what it updates."""
    return factored_bytes(rung, setting) if rung.optimizer.is_fused else moments_bytes(rung, setting)


def _engine_bytes(rung: Rung, setting: Setting, known: Parameters) -> int:
    """The files of DeepSpeed's engine: each rank's share of the optimizer, and the model once more below ZeRO-3."""
    width = element_bytes(rung.dtype)
    if rung.optimizer.is_fused:  # each rank's part of the weights stands for master weights
        share_bytes = width * part_count(rung, setting) + factored_bytes(rung, setting)
    else:
        share_bytes = optimizer_bytes(rung, setting)
    shares_bytes = (share_bytes + _ENGINE_RANK_BYTES) * setting.rank_count
    return shares_bytes + _module_bytes(rung, setting, known) + _ENGINE_BYTES


def _module_bytes(rung: Rung, setting: Setting, known: Parameters) -> int:
    """The model in the engine's own file (`module_state_dict` and `_get_zero_frozen_param_attributes` in
    runtime/engine.py). What is frozen beside an adapter is left out by its names: a tied weight has one name more, and
    a quantised one's scales are no parameters. What is frozen of a model that is trained whole is there twice."""
    width = element_bytes(rung.dtype)
    again_bytes = width * known.frozen_count if rung.zero_stage >= 2 and rung.method is Method.FULL else 0
    if rung.zero_stage >= 3:
        return again_bytes
    if rung.method is Method.FULL:
        return width * known.whole_count + again_bytes
    is_tied = not known.embedding_count and not setting.request.task.traits.scores
    return width * (known.trained_count + (known.largest_count if is_tied else 0)) + known.scales_bytes
