"""Quantised weights that ZeRO-3 divides while they are loaded, so that no rank ever holds all of a model's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from deepspeed.runtime.zero import partition_parameters
from torch import nn
from transformers import PreTrainedModel, core_model_loading, modeling_utils
from transformers.integrations.deepspeed import deepspeed_config

from .loading import without_zero_3
from .partition_loader import mark_loaded
from .quantization import is_quantized_layer, prepare_to_divide
from .streaming import replaced, without_broadcast

_ONE_BY_ONE = "HF_DEACTIVATE_ASYNC_LOAD"
"""The variable that has transformers load so: else threads put weights that are stored quantised on the device faster
than they are divided."""


class DividingLoader:
    """Loads one model. Its methods stand in for functions of transformers, by the names that they have there, while
    `from_pretrained` runs."""

    def __init__(self) -> None:
        self._set: Any = core_model_loading.set_param_for_module
        self._load: Any = modeling_utils.convert_and_load_state_dict_in_model
        self._init = partition_parameters.Init(config_dict_or_path=deepspeed_config())

    def set_param_for_module(self, model: PreTrainedModel, target_name: str, *arguments: Any, **options: Any) -> None:
        """Divides a parameter once it is there. What may be tied waits for that: before, the two are compared."""
        self._set(model, target_name, *arguments, **options)
        tied = model.all_tied_weights_keys
        parameter = model.get_parameter_or_buffer(target_name)
        if isinstance(parameter, nn.Parameter) and target_name not in {*tied, *tied.values()}:
            self._divide(model.get_submodule(target_name.rpartition(".")[0]), parameter)

    def convert_and_load_state_dict_in_model(self, model: PreTrainedModel, *arguments: Any, **options: Any) -> Any:
        loaded = self._load(model, *arguments, **options)
        mark_loaded(model)
        return loaded

    def divide_rest(self, model: PreTrainedModel) -> None:
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                self._divide(module, parameter)

    def _divide(self, module: nn.Module, parameter: nn.Parameter) -> None:
        if partition_parameters.is_zero_param(parameter):
            return
        if is_quantized_layer(module) and parameter is module.weight:
            prepare_to_divide(module)
        with without_broadcast():  # every rank has the same
            self._init._convert_to_zero_parameters([parameter])


def divided(load: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """The quantised model that `load` gets from transformers, in this rank's partitions: each weight is divided once it
    is quantised.

    A rank reads and quantises whole tensors, since the scales of all blocks of one stay on every rank, where they are
    quantised together in their turn.
    """
    loader = DividingLoader()
    with _stand_ins(loader):
        model = load()
    loader.divide_rest(model)
    return model


@contextlib.contextmanager
def _stand_ins(loader: DividingLoader) -> Iterator[None]:
    """Lets transformers load as on one device, through `loader`, until the end of `with`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_one_by_one())
        stack.enter_context(without_zero_3())
        for owner, stand_in in (
            (core_model_loading, loader.set_param_for_module),
            (modeling_utils, loader.convert_and_load_state_dict_in_model),
            (modeling_utils, caching_allocator_warmup),
        ):
            stack.enter_context(replaced(owner, stand_in.__name__, stand_in))
        yield


@contextlib.contextmanager
def _one_by_one() -> Iterator[None]:
    before = os.environ.get(_ONE_BY_ONE)
    os.environ[_ONE_BY_ONE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ONE_BY_ONE]
        else:
            os.environ[_ONE_BY_ONE] = before


def caching_allocator_warmup(*_: object) -> None:
    """Stands in for transformers', which would have the device's allocator reserve what all of the model takes."""
