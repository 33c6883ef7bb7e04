"""What is stored of a model: its tensors under the names and in the shapes of the original files, each once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Union

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from .partition import outline
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


def tensors_of(part: Part) -> list[torch.Tensor]:
    """The tensors of the model that it is made of."""
    match part:
        case Unchanged():
            return [part.tensor]
        case Converted():
            return list(part.tensors.values())


@dataclass(frozen=True)
class StoredState:
    """`outline` has what the files hold, without memory, in the order in which they are filled; `parts` makes it."""

    model: torch.nn.Module
    is_adapter: bool
    outline: Tensors
    parts: tuple[Part, ...]
    parameter_count: int  # of the whole model


def stored_state(model: torch.nn.Module) -> StoredState:
    """What is stored of the model, or of the adapter alone where it has one; NotStreamed where that is not known."""
    return _adapter(model) if isinstance(model, PeftModel) else _whole_model(model)


def stand_ins(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What PEFT looks for in a state whose tensors are written apart: those of modules that are trained whole beside an
    adapter, by their names in the model and of no size to speak of."""
    whole = [(name, module) for name, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)]
    return {f"{name}.{key}": torch.zeros(1) for name, module in whole for key in module.state_dict()}


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
    parts = tuple(Unchanged(tensor, name) for name, tensor in stored.items())
    return StoredState(model, True, _outlines(stored), parts, _parameter_count(model))


def _whole_model(model: PreTrainedModel) -> StoredState:
    """What transformers' save_pretrained would write; of tied weights the one that it keeps."""
    if getattr(model, "hf_quantizer", None) is not None:
        raise NotStreamed("its weights are quantised")
    own = model.state_dict(keep_vars=True)
    left_out = set(model._keys_to_ignore_on_save or ())
    whole = _outlines({name: tensor for name, tensor in own.items() if name not in left_out})
    untied = remove_tied_weights_from_state_dict(whole, model)
    stored = dict(revert_weight_conversion(model, dict(untied)))
    names = {id(tensor): name for name, tensor in untied.items()}
    renamed = {names[id(tensor)]: name for name, tensor in stored.items() if id(tensor) in names}
    changed = {name: tensor for name, tensor in untied.items() if name not in renamed}
    expected = {name: tensor for name, tensor in stored.items() if id(tensor) not in names}
    unchanged = (Unchanged(own[name], new_name) for name, new_name in renamed.items())
    groups = _groups(model, changed, expected)
    converted = (Converted({name: own[name] for name in group}, made) for group, made in groups.items())
    stored |= {name: outline(tensor) for name, tensor in expected.items()}  # not views, which count as what they are of
    return StoredState(model, False, stored, (*unchanged, *converted), _parameter_count(model))


def _parameter_count(model: torch.nn.Module) -> int:
    return sum(outline(parameter).numel() for parameter in model.parameters())


def _outlines(tensors: Tensors) -> dict[str, torch.Tensor]:
    """The same tensors, whole and without memory; NotStreamed where one is none, or of a dtype without a name."""
    if not all(isinstance(tensor, torch.Tensor) and has_name(tensor.dtype) for tensor in tensors.values()):
        raise NotStreamed("its state holds what a safetensors file does not")
    return {name: outline(tensor) for name, tensor in tensors.items()}


def _groups(model: PreTrainedModel, changed: Tensors, expected: Tensors) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The smallest groups of `changed` from which all of `expected` is made, each with the names of what it makes.

    Which tensors go together transformers does not tell, so it is tried: each alone, then with those of the same
    module, of the module around that, and so on. NotStreamed where there are no such groups.
    """
    groups: dict[tuple[str, ...], tuple[str, ...]] = {}
    left = set(changed)
    for depth in range(max((name.count(".") for name in changed), default=0) + 1, 0, -1):
        for group in _by_module(left, depth):
            made = _made_alone(model, {name: changed[name] for name in group}, expected)
            if made:
                left -= set(group)
                groups[group] = made
    if left or sorted(name for made in groups.values() for name in made) != sorted(expected):
        raise NotStreamed("transformers makes the original's tensors of the whole model at once")
    return groups


def _by_module(names: Iterable[str], depth: int) -> list[tuple[str, ...]]:
    """The names that begin with the same `depth` words."""
    found = defaultdict(list)
    for name in sorted(names):
        found[tuple(name.split(".")[:depth])].append(name)
    return [tuple(group) for group in found.values()]


def _made_alone(model: PreTrainedModel, group: Tensors, expected: Tensors) -> tuple[str, ...]:
    """The names of what is made of the group; none where it is not what is made of the whole model."""
    try:
        made = revert_weight_conversion(model, dict(group))
    except Exception:  # a part without the rest: whatever an operation says of that
        return ()
    is_same = all(name in expected and _is_alike(tensor, expected[name]) for name, tensor in made.items())
    return tuple(made) if is_same else ()


def _is_alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype
