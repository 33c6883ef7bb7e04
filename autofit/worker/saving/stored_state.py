"""What is stored of a model: its tensors under the names and in the shapes of the original files, each once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Union

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from .partition import whole_shape
from .safetensors_file import has_name

Tensors = Mapping[str, torch.Tensor]


class NotStreamed(Exception):
    """The model has something that is not written in a stream; the message says what."""


@dataclass(frozen=True)
class Unchanged:
    """A tensor that is stored as it is, under the name `stored`."""

    tensor: torch.Tensor
    stored: str


@dataclass(frozen=True)
class Converted:
    """Tensors, by their names in the model, that transformers turns into others for the file: of fused experts one
    for each."""

    tensors: Tensors
    stored: tuple[str, ...]


Part = Union[Unchanged, Converted]


@dataclass(frozen=True)
class StoredState:
    """`outline` has what the files hold, without memory, in the order in which they are filled; `parts` makes it."""

    is_adapter: bool
    outline: Tensors
    parts: tuple[Part, ...]


def stored_state(model: torch.nn.Module) -> StoredState:
    """What is stored of the model, or of the adapter alone where it has one; NotStreamed where that is not known."""
    return _adapter(model) if isinstance(model, PeftModel) else _whole_model(model)


def _adapter(model: PeftModel) -> StoredState:
    """The adapter under PEFT's names."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    # Else PEFT asks the hub whether the vocabulary has grown, which it never does here.
    has_embeddings = any(isinstance(layer, BaseTunerLayer) for layer in ends)
    own = model.state_dict(keep_vars=True)
    stored = get_peft_model_state_dict(model, own, save_embedding_layers=has_embeddings)
    known = {id(tensor) for tensor in own.values()}
    if any(id(tensor) not in known for tensor in stored.values()):
        raise NotStreamed("PEFT computes what is stored of the adapter")
    return StoredState(True, _outline(stored), tuple(Unchanged(tensor, name) for name, tensor in stored.items()))


def _whole_model(model: PreTrainedModel) -> StoredState:
    """What transformers' save_pretrained would write; of tied weights the one that it keeps."""
    if getattr(model, "hf_quantizer", None) is not None:
        raise NotStreamed("its weights are quantised")
    own = model.state_dict(keep_vars=True)
    left_out = set(model._keys_to_ignore_on_save or ())
    outline = _outline({name: tensor for name, tensor in own.items() if name not in left_out})
    untied = remove_tied_weights_from_state_dict(outline, model)
    stored = revert_weight_conversion(model, dict(untied))
    names = {id(tensor): name for name, tensor in untied.items()}
    kept = {name: names[id(tensor)] for name, tensor in stored.items() if id(tensor) in names}
    unchanged = (Unchanged(own[name], new_name) for new_name, name in kept.items())
    changed = {name: tensor for name, tensor in untied.items() if name not in set(kept.values())}
    expected = {name: tensor for name, tensor in stored.items() if name not in kept}
    groups = _groups(model, changed, expected)
    converted = (Converted({name: own[name] for name in group}, made) for group, made in groups)
    return StoredState(False, stored, (*unchanged, *converted))


def _outline(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The same tensors, whole and without memory; NotStreamed where one is none, or of a dtype without a name."""
    if not all(isinstance(tensor, torch.Tensor) and has_name(tensor.dtype) for tensor in tensors.values()):
        raise NotStreamed("its state holds what a safetensors file does not")
    return {
        name: torch.empty(whole_shape(tensor), dtype=tensor.dtype, device="meta") for name, tensor in tensors.items()
    }


def _groups(
    model: PreTrainedModel, changed: Tensors, expected: Tensors
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The smallest groups of `changed` from which all of `expected` is made, each with the names of what it makes.

    Which tensors go together transformers does not tell, so it is tried: each alone, then with those of the same
    module, of the module around that, and so on.
    """
    left = set(changed)
    for depth in range(max((name.count(".") for name in changed), default=0) + 1, 0, -1):
        for group in _by_module(left, depth):
            made = _made_alone(model, {name: changed[name] for name in group}, expected)
            if made is not None:
                left -= set(group)
                yield group, made
    if left:
        raise NotStreamed(f"transformers turns all of it at once into the original's: {min(left)} among others")


def _by_module(names: Iterable[str], depth: int) -> list[tuple[str, ...]]:
    """The names that begin with the same `depth` words."""
    found = defaultdict(list)
    for name in sorted(names):
        found[tuple(name.split(".")[:depth])].append(name)
    return [tuple(group) for group in found.values()]


def _made_alone(model: PreTrainedModel, group: Tensors, expected: Tensors) -> tuple[str, ...] | None:
    """The names of what is made of the group; None where it is not what is made of the whole model."""
    try:
        made = revert_weight_conversion(model, dict(group))
    except Exception:  # a part without the rest: whatever an operation says of that
        return None
    is_same = all(name in expected and _is_alike(tensor, expected[name]) for name, tensor in made.items())
    return tuple(made) if is_same else None


def _is_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype
