"""What optimizers keep of each trained parameter from step to step, beside its fp32 master weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

ADAM_MOMENTS = 2


@dataclass(frozen=True)
class Moments:
    """The number of fp32 numbers of a parameter: `count`, and one more for each of the `options` that is on."""

    count: int
    options: frozenset[str] = frozenset()


MOMENTS: Mapping[str, Moments] = {
    "adadelta": Moments(2),
    "adagrad": Moments(1),
    "adam": Moments(ADAM_MOMENTS, frozenset({"amsgrad"})),
    "adamax": Moments(2),
    "adamw": Moments(ADAM_MOMENTS, frozenset({"amsgrad"})),
    "asgd": Moments(1),
    "deepspeedcpuadagrad": Moments(1),
    "deepspeedcpuadam": Moments(ADAM_MOMENTS),
    "deepspeedcpulion": Moments(1),
    "fusedadam": Moments(ADAM_MOMENTS),
    "fusedlion": Moments(1),
    "lion": Moments(1),
    "nadam": Moments(2),
    "radam": Moments(2),
    "rmsprop": Moments(1, frozenset({"centered", "momentum"})),
    "rprop": Moments(2),
    "sgd": Moments(0, frozenset({"momentum"})),
}
"""The moments of those that update each element by itself, by their classes and the types of DeepSpeed's configs in
small letters: what their first step puts into `state` (torch 2.13, torch/optim; DeepSpeed 0.19.8, ops/adam,
ops/adagrad, ops/lion). ZeRO keeps it for its flat fp32 shares, so in fp32, and divides it as the master weights. Under
ZeRO-Offload a class of torch keeps as much on the host (DeepSpeed takes it with `zero_force_ds_cpu_optimizer` off), and
DeepSpeed's own classes for the types of its config as well. Known error: with that key on, accelerate puts DeepSpeed's
Adam there."""

OPTIONS = frozenset(option for moments in MOMENTS.values() for option in moments.options)


def moment_count(optimizer: str | None, options: Collection[str]) -> int:
    """The number of fp32 numbers that `optimizer` keeps of a parameter with these of its `OPTIONS` on; Adam's of an
    unknown one."""
    moments = MOMENTS.get((optimizer or "").lower())
    return ADAM_MOMENTS if moments is None else moments.count + len(moments.options.intersection(options))
