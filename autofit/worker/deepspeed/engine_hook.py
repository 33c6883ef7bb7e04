"""The call `deepspeed.initialize` hooked from outside: the script calls it as ever, whether itself or through
accelerate."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import deepspeed
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.config import DeepSpeedConfig
from torch import nn


class EngineCall:
    """One call of `deepspeed.initialize`, before it is made."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments

    @property
    def model(self) -> nn.Module:
        model: nn.Module = self._arguments["model"]
        return model

    @property
    def optimizer(self) -> Any:
        """The script's own optimizer, or a function that makes it; None where the config names one."""
        return self._arguments.get("optimizer")

    @property
    def optimizer_name(self) -> str | None:
        """The class of the script's own optimizer, or the type that the config names."""
        return self.config.optimizer_name if self.optimizer is None else type(self.optimizer).__name__

    @property
    def is_trained(self) -> bool:
        """Whether the engine is to train: a reference model of trl gets one without an optimizer; without a config
        DeepSpeed itself complains."""
        return self._given_config is not None and self.optimizer_name is not None

    @cached_property
    def config(self) -> DeepSpeedConfig:
        """The config as the engine will read it; its batch sizes depend on the number of ranks, so the group is made
        first."""
        given = self._arguments
        deepspeed.init_distributed(
            dist_backend=get_accelerator().communication_backend_name(),
            distributed_port=given["distributed_port"],
            dist_init_required=given["dist_init_required"],
        )
        return DeepSpeedConfig(copy.deepcopy(self._given_config), given["mpu"])

    @property
    def _given_config(self) -> str | dict[str, Any] | None:
        given = self._arguments
        return given["config"] or given["config_params"] or getattr(given["args"], "deepspeed_config", None)


def hook_engines(
    before: Callable[[EngineCall], None],
    after: Callable[[Any], None],
    guard: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Hooks this process: `before` sees each call that makes an engine to train with, and `after` sees the engine.

    `guard` is around the making.
    """
    initialize = deepspeed.initialize
    signature = inspect.signature(initialize)

    @functools.wraps(initialize)
    def hooked(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        call = EngineCall(bound.arguments)
        if not call.is_trained:
            return initialize(*args, **kwargs)
        before(call)
        with guard():
            made = initialize(*args, **kwargs)
        after(made[0])
        return made

    deepspeed.initialize = hooked
