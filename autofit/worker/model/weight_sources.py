"""Where a checkpoint has the values of each parameter, by transformers' own rules of names and conversions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel, core_model_loading

from .checkpoint_tensors import StoredTensor, in_memory


@dataclass(frozen=True)
class Source:
    """The values of a parameter of `shape`: pieces that lie one after another in it, each made where it is read."""

    shape: tuple[int, ...]
    pieces: tuple[StoredTensor, ...]

    def whole(self) -> torch.Tensor:
        """All values; of one piece no copy."""
        parts = [piece.read() for piece in self.pieces]
        return parts[0] if len(parts) == 1 else torch.cat([part.reshape(-1) for part in parts]).view(self.shape)


@dataclass
class Group:
    """The tensors of a checkpoint that one conversion makes parameters of, by the pattern that each has matched."""

    name: str  # of the first of the parameters
    converter: Any | None  # transformers' WeightConverter; None: the one tensor is the parameter
    tensors: dict[str, list[StoredTensor]] = field(default_factory=dict)

    def sources(self, model: PreTrainedModel) -> Iterator[tuple[str, Source]]:
        """Each parameter's name and values; RuntimeError where the tensors do not suit their conversion."""
        if self.converter is None:
            tensor = next(iter(self.tensors.values()))[0]
            yield self.name, Source(tensor.shape, (tensor,))
            return
        try:
            yield from self._converted(model)
        except Exception as error:  # an operation of any make does it, and raises what it likes
            raise RuntimeError(f"The weights of {self.name} cannot be converted: {error}") from error

    def _converted(self, model: PreTrainedModel) -> Iterator[tuple[str, Source]]:
        converter: Any = self.converter
        if _is_end_to_end(converter):
            pieces = [piece for key in converter.source_patterns for piece in self.tensors.get(key, ())]
            yield self.name, Source(self._shape(self.tensors, model), tuple(pieces))
        elif _is_by_rows(converter) and len({len(each) for each in self.tensors.values()}) == 1:
            yield self.name, self._by_rows(model)
        else:
            for name, value in self._convert(self.tensors, model).items():
                yield name, Source(tuple(value.shape), (in_memory(value),))

    def _by_rows(self, model: PreTrainedModel) -> Source:
        """Row by row, as experts are: what a rank does not keep is neither read nor made."""
        shape, patterns = self._shape(self.tensors, model), self.tensors
        rows = [{key: [patterns[key][number]] for key in patterns} for number in range(shape[0])]
        return Source(shape, tuple(StoredTensor((1, *shape[1:]), self._row(row, model)) for row in rows))

    def _row(self, row: Mapping[str, Sequence[StoredTensor]], model: PreTrainedModel) -> Callable[[], torch.Tensor]:
        return lambda: next(iter(self._convert(row, model).values()))

    def _shape(self, tensors: Mapping[str, Sequence[StoredTensor]], model: PreTrainedModel) -> tuple[int, ...]:
        hollow = {key: [_hollow(tensor) for tensor in each] for key, each in tensors.items()}
        return tuple(next(iter(self._convert(hollow, model).values())).shape)

    def _convert(
        self, tensors: Mapping[str, Sequence[StoredTensor]], model: PreTrainedModel
    ) -> dict[str, torch.Tensor]:
        converter: Any = copy.deepcopy(self.converter)  # it keeps what it is given
        for pattern, each in tensors.items():
            for tensor in each:
                converter.add_tensor(self.name, pattern, pattern, tensor.read)
        made = converter.convert(self.name, model=_WholeShapes(model), config=model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


class _WholeShapes:
    """A model as conversions ask for it: the shapes of its parameters, which ZeRO-3 has emptied."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.config = model.config

    def get_parameter(self, name: str) -> torch.Tensor:
        return torch.empty(whole_shape(self._model.get_parameter(name)), device="meta")


def whole_shape(tensor: Any) -> tuple[int, ...]:
    """The shape of a parameter, of one that ZeRO-3 has divided as well."""
    return tuple(getattr(tensor, "ds_shape", getattr(tensor, "shape", ())))


def grouped(
    model: PreTrainedModel, stored: Mapping[str, StoredTensor], conversions: Sequence[Any]
) -> tuple[Group, ...]:
    """The checkpoint's tensors that the model has a place for, named and grouped as transformers does it without ZeRO-3
    (convert_and_load_state_dict_in_model in core_model_loading.py)."""
    core: Any = core_model_loading
    shapes = {name: whole_shape(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    renamings = [one for one in conversions if isinstance(one, core.WeightRenaming)]
    converters = [one for one in conversions if isinstance(one, core.WeightConverter)]
    of_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    groups: dict[str, Group] = {}
    for key in sorted(stored, key=core.dot_natural_key):
        name, pattern = core.rename_source_key(key, renamings, converters, model.base_model_prefix, shapes)
        if name not in shapes and key in shapes:  # it should not have been renamed
            name, pattern = core.rename_source_key(key, [], [], model.base_model_prefix, shapes)
        if name in shapes:
            converter = None if pattern is None else of_pattern[pattern]
            group = groups.setdefault(name, Group(name, converter))
            group.tensors.setdefault(pattern or key, []).append(stored[key])
    return tuple(groups.values())


def _hollow(tensor: StoredTensor) -> StoredTensor:
    return StoredTensor(tensor.shape, lambda: torch.empty(tensor.shape, device="meta"))


def _is_end_to_end(converter: Any) -> bool:
    """Whether all that it does is to lay the tensors one after another."""
    kinds = [type(operation) for operation in converter.operations]
    return kinds == [core_model_loading.Concatenate] and converter.operations[0].dim == 0


def _is_by_rows(converter: Any) -> bool:
    """Whether it stacks tensors to rows of one parameter and leaves the order of the rows as it is."""
    first, *others = converter.operations
    is_stacked = type(first) is core_model_loading.MergeModulelist and first.dim == 0
    return is_stacked and len(converter.target_patterns) == 1 and all(map(_keeps_rows, others))


def _keeps_rows(operation: Any) -> bool:
    if type(operation) is core_model_loading.Concatenate:
        return bool(operation.dim > 0)
    is_plain = type(operation) is core_model_loading.Transpose and not operation.check_dims
    return is_plain and min(operation.dim0, operation.dim1) > 0
