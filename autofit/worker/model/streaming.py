"""Loading that streams from the disk: what is replaced in transformers and DeepSpeed while `from_pretrained` runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deepspeed.runtime.zero import partition_parameters
from transformers import modeling_utils

from .checkpoint_tensors import StoredTensor, in_memory, stored_tensors
from .partition_loader import PartitionLoader


@contextlib.contextmanager
def streamed_partitions() -> Iterator[None]:
    """Has `from_pretrained` under ZeRO-3 fill each rank's partitions from the mapped files until the end of `with`.

    Parameters are not broadcast while the model is built, for the values that they have then are replaced: what a
    checkpoint lacks is initialized afterwards, by transformers and the same on all ranks.
    """
    utils: Any = modeling_utils
    loader = PartitionLoader(utils._tied_params_are_equal)
    init = partition_parameters.Init
    with contextlib.ExitStack() as stack:
        for owner, name, stand_in in (
            (utils, "load_state_dict", _mapping(utils.load_state_dict)),
            (utils, "_load_state_dict_into_zero3_model", loader.load),
            (utils, "_tied_params_are_equal", loader.are_equal),
            (init, "_zero_init_param", _alone(init._zero_init_param)),
        ):
            stack.enter_context(replaced(owner, name, stand_in))
        yield


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Has `owner` have `value` by this name until the end of `with`."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _mapping(load: Callable[..., Mapping[str, Any]]) -> Callable[..., Mapping[str, StoredTensor]]:
    """Stands in for `load_state_dict`: every rank maps the files, where all but the first would read their headers."""

    def load_state_dict(
        checkpoint_file: str | os.PathLike[str],
        map_location: object = "cpu",
        weights_only: bool = True,
        disable_mmap: bool | None = None,
    ) -> Mapping[str, StoredTensor]:
        path = Path(checkpoint_file)
        if path.suffix == ".safetensors":
            is_mappable = not (disable_mmap or modeling_utils._is_on_hf_mount(path))
            return stored_tensors(path, is_mappable=is_mappable)
        tensors = load(path, map_location="cpu", weights_only=weights_only, disable_mmap=disable_mmap)
        return {name: in_memory(tensor) for name, tensor in tensors.items()}

    return load_state_dict


def _alone(init_param: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Stands in for `Init._zero_init_param`, which would send a parameter's first values to all ranks."""

    def zero_init_param(self: Any, param: Any) -> None:
        with without_broadcast():
            init_param(self, param)

    return zero_init_param


def without_broadcast() -> contextlib.AbstractContextManager[None]:
    """Has DeepSpeed divide parameters without sending their values to all ranks, until the end of `with`."""
    return replaced(partition_parameters.dist, "broadcast", _send_nothing)


def _send_nothing(*_: object, **__: object) -> None:
    pass
