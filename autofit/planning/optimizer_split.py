"""ZeRO-3's optimizer divided between a rank's device and its host; terms of DeepSpeed 0.19.8.

It is divided by sub-groups (runtime/zero/stage3.py): whole tensors' partitions in the order of the parameters, until
they are `sub_group_size` elements together. Of N sub-groups the first int((1 - ratio) · N) stay on the device
(subgroup_to_device in _create_fp32_partitions), so that a partition of one sub-group could not be divided at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from autofit.domain.model import ParameterGroup

_MARGIN = 0.1
"""Of a sub-group, by which the ratio lies above the number that it is to give: should the model have one sub-group more
or less than was expected, the device gets as many as it was to get, or one less."""


@dataclass(frozen=True)
class OptimizerSplit:
    """`counts` are the elements of a rank in each sub-group, in their order; the first `device_groups` of them are the
    device's."""

    sub_group_size: int  # elements, as DeepSpeed is told
    counts: tuple[int, ...]
    device_groups: int = 0

    @property
    def device_count(self) -> int:
        """Elements of a rank whose optimizer is on the device."""
        return sum(self.counts[: self.device_groups])

    @property
    def device_share(self) -> float:
        """The device's share of the optimizer."""
        return self.device_count / sum(self.counts)

    @property
    def largest_on_device(self) -> int:
        """Elements of the largest of the device's sub-groups."""
        return max(self.counts[: self.device_groups], default=0)

    @property
    def host_counts(self) -> tuple[int, ...]:
        return self.counts[self.device_groups :]

    @property
    def ratio(self) -> float:
        """The share that is offloaded, as DeepSpeed counts it: by sub-groups, not by elements."""
        return 1 - (self.device_groups + _MARGIN) / len(self.counts) if self.device_groups else 1.0


@lru_cache(maxsize=64)
def split_by_layers(groups: tuple[ParameterGroup, ...], layer_count: int, ranks: int, least: int) -> OptimizerSplit:
    """Sub-groups as large as a layer's trained tensors on a rank, none of them on the device.

    Wherever in a layer such a sub-group begins, it ends at the same place of the next one: so the number of them and
    their sizes are known although the order within a layer is not. Tensors of at most `least` elements are not counted
    for the size, and stand in a group of their own at the end: they are norms and biases, which are not decayed
    (get_decay_parameter_names in transformers/trainer.py). Known error: a tensor's partition in the first sub-group;
    more where layers differ.
    """
    trained = [group for group in groups if group.is_trained]
    size = sum(_of_layer(group, layer_count, ranks) for group in trained if group.element_count > least)
    size = max(1, size)
    decayed = sorted((group for group in trained if group.element_count > least), reverse=True)
    others = [group for group in trained if group.element_count <= least]
    kinds = (_filled(_in_order(kind, layer_count, ranks), size) for kind in (decayed, others))
    return OptimizerSplit(size, tuple(count for counts in kinds for count in counts))


def _is_table(group: ParameterGroup, layer_count: int) -> bool:
    """Whether it is one of the embeddings, of the input or of the output, rather than a tensor of each layer."""
    return group.tensor_count <= min(2, layer_count - 1)


def _of_layer(group: ParameterGroup, layer_count: int, ranks: int) -> int:
    is_table = _is_table(group, layer_count)
    return 0 if is_table else -(-group.element_count // ranks) * group.tensor_count // layer_count


def _in_order(groups: Iterable[ParameterGroup], layer_count: int, ranks: int) -> Iterator[int]:
    """The partitions' elements, tensor by tensor: the input's embeddings, the layers, the output's."""
    tables = [group for group in groups if _is_table(group, layer_count)]
    layered = [group for group in groups if not _is_table(group, layer_count)]
    yield from (-(-table.element_count // ranks) for table in tables)
    for layer in range(layer_count):
        for group in layered:
            each, more = divmod(group.tensor_count, layer_count)
            yield from [-(-group.element_count // ranks)] * (each + (layer < more))
    yield from (-(-table.element_count // ranks) for table in tables if table.tensor_count > 1)


def _filled(partitions: Iterable[int], size: int) -> Iterator[int]:
    """Sub-groups of whole partitions, each closed once it has `size` elements (_create_fp16_sub_groups)."""
    count = 0
    for partition in partitions:
        count += partition
        if count >= size:
            yield count
            count = 0
    if count:
        yield count
