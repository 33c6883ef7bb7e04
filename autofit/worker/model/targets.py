"""Where LoRA's adapters go: the modules of one model that a request's words mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as FAMILY_TARGETS
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from autofit.domain.request import ALL_LINEAR, AUTO_TARGETS, Lora

from .decoder import text_decoder
from .quantization import quantized_layers

try:
    from peft.utils.transformers_weight_conversion import _MODEL_TO_CONVERSION_PATTERN as EXPERTS_LIKE
    from peft.utils.transformers_weight_conversion import _MOE_TARGET_MODULE_MAPPING as EXPERT_TARGETS
except ImportError:  # a PEFT that takes all names as they are
    EXPERTS_LIKE, EXPERT_TARGETS = {}, {}

_LINEAR = (nn.Linear, Conv1D)
_ADAPTABLE = (*_LINEAR, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Of a state space layer. Its kernels read the weights of its other modules past the modules themselves
# (mamba_inner_fn, mamba_split_conv1d_scan_combined), so that an adapter there would learn nothing.
_STATE_SPACE_PARAMETERS = ("A_log", "D")
_STATE_SPACE_INPUT = "in_proj"
_CHOOSING = "indexer"  # the module of DeepSeek's sparse attention and of those that follow it


def lora_targets(lora: Lora, model: PreTrainedModel) -> tuple[str, ...]:
    """The ends of the names of the modules that get an adapter, each as short as no other module shares it.

    What is not named one by one lies in the layers of the text decoder: what sees or hears learns nothing from text.
    ValueError, in one sentence, for words that no module of the model matches.
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, _ADAPTABLE)}
    experts = set(lora.target_modules) & _expert_names(model)
    words = [word for word in lora.target_modules if word not in experts]
    wanted = {name for word in words for name in _meant(word, model, modules)}
    excluded = {name for word in lora.exclude_modules for name in _named(word, modules)}
    if not wanted and not experts:
        raise ValueError(f"{type(model).__name__} has no linear layer that LoRA can adapt")
    if not wanted - excluded and not experts:
        raise ValueError(f"nothing is left of the modules {_list(lora.target_modules)} without those excluded")
    ends = _shortest(wanted - excluded, [name for name, _ in model.named_modules()])
    return tuple(sorted({*ends, *experts}))


def _meant(word: str, model: PreTrainedModel, modules: dict[str, nn.Module]) -> set[str]:
    if word == AUTO_TARGETS:
        return _of_family(model, modules) or _without_experts(_all_linear(model, modules), model)
    return _all_linear(model, modules) if word == ALL_LINEAR else _named(word, modules)


def _of_family(model: PreTrainedModel, modules: dict[str, nn.Module]) -> set[str]:
    """What PEFT's own table names, by the language model's type where the whole one's is not there; none where the
    table does not know the family, or means other modules than the class has."""
    types = (model.config.model_type, model.config.get_text_config().model_type)
    ends = next((FAMILY_TARGETS[one] for one in types if one in FAMILY_TARGETS), ())
    of_text = _of_text(model, modules)
    if isinstance(ends, str):
        return {name for name in of_text if re.fullmatch(ends, name)}
    found = {end: {name for name in of_text if _ends(name, end)} for end in ends}
    return set().union(*found.values()) if all(found.values()) else set()


def _all_linear(model: PreTrainedModel, modules: dict[str, nn.Module]) -> set[str]:
    """All linear layers of the language model but the head, and but those whose names PEFT takes for experts'."""
    head, experts = model.get_output_embeddings(), _expert_names(model)
    packed = set(quantized_layers(model))  # linear ones to a layer, and of forward passes of their own
    linear = {name for name in _of_text(model, modules) if modules[name] in packed or _is_plain_linear(modules[name])}
    linear = {name for name in linear if modules[name] is not head and name.rsplit(".", 1)[-1] not in experts}
    layers = [name for name, module in model.named_modules() if is_state_space(module)]
    past = {name for layer in layers for name in linear if name.startswith(f"{layer}.")}
    return {name for name in linear if name not in past or _ends(name, _STATE_SPACE_INPUT)}


def _without_experts(names: set[str], model: PreTrainedModel) -> set[str]:
    """Without the experts that stand in a list: hundreds of adapters a layer, each of which sees a few tokens. Where
    transformers has all experts of a layer in one parameter, they are left as they are, too."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    experts = tuple(f"{name}." for name in lists if "expert" in name.rsplit(".", 1)[-1])
    return {name for name in names if not name.startswith(experts)} or names


def _expert_names(model: PreTrainedModel) -> frozenset[str]:
    """The names that experts' layers had before transformers 5 made one parameter of all of them. PEFT gives whatever
    is called so an adapter for each expert, and none to the layers of that name that there are."""
    return frozenset(EXPERT_TARGETS.get(EXPERTS_LIKE.get(model.config.model_type, ""), {}))


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether it does what a linear layer does: routers that are made of one give more than its product."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in _LINEAR)


def is_state_space(module: nn.Module) -> bool:
    """Whether it is a state space layer, such as Mamba's."""
    return all(isinstance(getattr(module, name, None), nn.Parameter) for name in _STATE_SPACE_PARAMETERS)


def _of_text(model: PreTrainedModel, modules: dict[str, nn.Module]) -> set[str]:
    """The names of the modules that lie in layers of the text decoder, but for those that choose which keys are
    attended to: no gradient comes through a choice."""
    decoder = text_decoder(model)
    parts = [part for part in decoder.modules() if isinstance(part, PreTrainedModel) and part is not decoder]
    beside = {id(module) for part in parts for module in part.modules()}
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList)]
    inside = {id(module) for layers in lists for module in layers.modules()} - beside
    return {name for name, module in modules.items() if id(module) in inside and f".{_CHOOSING}." not in name}


def _named(word: str, modules: Collection[str]) -> set[str]:
    found = {name for name in modules if _ends(name, word) or fnmatchcase(name, word) or fnmatchcase(name, f"*.{word}")}
    if not found:
        known = sorted({name.rsplit(".", 1)[-1] for name in modules} - {"0", "1"})
        raise ValueError(f"no module is named {word}; there are {_list(known[:20])}")
    return found


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _shortest(wanted: set[str], names: Iterable[str]) -> tuple[str, ...]:
    """The shortest ends that match the wanted names and none of the others."""
    others = {end for name in names if name not in wanted for end in _all_ends(name)}
    return tuple(sorted({next(end for end in _all_ends(name) if end not in others) for name in wanted}))


def _all_ends(name: str) -> list[str]:
    """The ends of a dotted name, the shortest first."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
