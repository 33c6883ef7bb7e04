"""The part of a model that text goes through, and its layers."""

from __future__ import annotations

from typing import Any, cast

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of the layers that text goes through; ValueError when there is none.

    Other lists may be longer (the layers of a vision tower, the experts of one layer): what counts is that it stands in
    the text decoder, is as long as the configuration says, and stands in no other list.
    """
    decoder = text_decoder(model)
    lists = [(name, module) for name, module in decoder.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(_bare(model)).__name__} has no list of layers")
    count = getattr(_text_config(model), "num_hidden_layers", None)
    return min(lists, key=lambda one: (len(one[1]) != count, one[0].count("."), -len(one[1])))[1]


def text_decoder(model: nn.Module) -> nn.Module:
    """The smallest part of the model that has both its token embedding and lists of modules."""
    bare = _bare(model)
    embedding = cast(PreTrainedModel, bare).get_input_embeddings()
    parts = [part for part in bare.modules() if _has_list(part) and any(one is embedding for one in part.modules())]
    return min(parts, key=lambda part: sum(1 for _ in part.modules()), default=bare)


def _has_list(part: nn.Module) -> bool:
    return any(isinstance(module, nn.ModuleList) for module in part.modules())


def _bare(model: nn.Module) -> nn.Module:
    """The model without PEFT around it."""
    return cast(nn.Module, model.get_base_model()) if isinstance(model, PeftModel) else model


def _text_config(model: nn.Module) -> Any:
    config: Any = _bare(model).config
    return config.get_text_config()
