"""The parameters of a rung's model, tensor by tensor: traced, or guessed from the shape."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.model import ModelShape, ParameterGroup
from autofit.domain.request import ALL_LINEAR, AUTO_TARGETS, Lora
from autofit.domain.strategy import Rung

from .quantized_weights import STORED_BYTES, packed_bytes, scales_bytes
from .setting import Setting

_TENSORS_PER_LAYER = 7
USUAL_TARGETS = ("q_proj", "v_proj")
_LINEAR_NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, eq=False)
class Parameters:
    """Counts of elements, for what DeepSpeed divides, gathers and reduces tensor by tensor. Equal only to itself: those
    of one model are made once.

    A quantised weight counts as many elements of the training's dtype as its bytes are, `stored_count` of its own each.
    `widened_count` are the elements of all of them before they are quantised, `widest_count` those of the largest one.
    `scales_bytes` are those of all scales, which are no parameters: whole on every rank.
    """

    groups: tuple[ParameterGroup, ...]
    stored_count: int = 1
    widened_count: int = 0
    widest_count: int = 0
    scales_bytes: int = 0

    @cached_property
    def whole_count(self) -> int:
        return sum(group.element_count * group.tensor_count for group in self.groups)

    @cached_property
    def trained_count(self) -> int:
        return sum(group.element_count * group.tensor_count for group in self._trained)

    @property
    def frozen_count(self) -> int:
        return self.whole_count - self.trained_count

    @cached_property
    def trained_tensor_count(self) -> int:
        return sum(group.tensor_count for group in self._trained)

    @cached_property
    def largest_trained_count(self) -> int:
        return max((group.element_count for group in self._trained), default=0)

    @cached_property
    def trained_tensors(self) -> tuple[tuple[int, int], ...]:
        """Elements of a trained tensor, and how many such tensors there are."""
        return tuple((group.element_count, group.tensor_count) for group in self._trained)

    @cached_property
    def frozen_tensors(self) -> tuple[tuple[int, int], ...]:
        """Elements of a frozen tensor, and how many such tensors there are."""
        return tuple((group.element_count, group.tensor_count) for group in self.groups if not group.is_trained)

    @cached_property
    def viewed_count(self) -> int:
        """Elements of the weights that autograd keeps whole from a layer's forward to its backward pass."""
        return sum(group.element_count * group.tensor_count for group in self.groups if group.is_viewed)

    @cached_property
    def largest_count(self) -> int:
        return max(group.element_count for group in self.groups)

    @cached_property
    def embedding_count(self) -> int:
        """Elements of the input embeddings: the largest tensor, where there are two of them, one for the output."""
        largest = max(self.groups, key=lambda group: (group.element_count, group.tensor_count))
        alike = sum(group.tensor_count for group in self.groups if group.element_count == largest.element_count)
        return largest.element_count if alike > 1 else 0

    @cached_property
    def typical_trained_count(self) -> int:
        """Elements of the tensor that an element is in, for half of the trained elements at most in a larger one."""
        passed = 0
        for element_count, tensor_count in sorted(self.trained_tensors, reverse=True):
            passed += element_count * tensor_count
            if 2 * passed >= self.trained_count:
                return element_count
        return 0

    def largest_within(self, count: int) -> int:
        """Elements of the largest trained tensor among those that fit into `count` elements; `count` if none does."""
        place = bisect_right(self._trained_sizes, count)
        return self._trained_sizes[place - 1] if place else count

    @cached_property
    def _trained_sizes(self) -> tuple[int, ...]:
        """Elements of the trained tensors, smallest first."""
        return tuple(sorted(group.element_count for group in self._trained))

    def divided_count(self, ranks: int, *, is_trained: bool) -> int:
        """Elements that ZeRO-3 gives each rank: every tensor is padded to a multiple of the ranks."""
        return sum(
            -(-group.element_count // ranks) * group.tensor_count
            for group in self.groups
            if group.is_trained is is_trained
        )

    def count_up_to(self, element_count: int) -> int:
        """Elements of all tensors of at most `element_count` elements as they are stored."""
        return sum(
            group.element_count * group.tensor_count
            for group in self.groups
            if self._stored_count(group) <= element_count
        )

    def tensors_above(self, element_count: int) -> int:
        """How many tensors have more than `element_count` elements."""
        return sum(group.tensor_count for group in self.groups if group.element_count > element_count)

    def count_from_the_end(self, layer_count: int, least_count: int) -> int:
        """Elements of the last tensors that are `least_count` together at least as they are stored, all where there are
        fewer: the output's, which is as large as the largest tensor, and layer by layer those of each, the largest
        first as in most families."""
        count = passed = self.largest_count
        layer = [group for group in self.groups for _ in range(group.tensor_count // layer_count)]
        stored = sum(self._stored_count(group) for group in layer)
        whole_layers = max(0, least_count - passed) // max(1, stored)
        count += whole_layers * sum(group.element_count for group in layer)
        passed += whole_layers * stored
        for group in sorted(layer, key=self._stored_count, reverse=True):
            if passed < least_count:
                count, passed = count + group.element_count, passed + self._stored_count(group)
        return min(count, self.whole_count)

    def _stored_count(self, group: ParameterGroup) -> int:
        """The elements that DeepSpeed counts of one of the group's tensors."""
        return group.element_count * (self.stored_count if is_quantizable(group) else 1)

    def larger_share(self, element_count: int) -> float:
        """The share of the trained elements that is in tensors of more than `element_count` elements."""
        larger = sum(g.element_count * g.tensor_count for g in self._trained if g.element_count > element_count)
        return larger / max(1, self.trained_count)

    @cached_property
    def _trained(self) -> tuple[ParameterGroup, ...]:
        return tuple(group for group in self.groups if group.is_trained)


def parameters(rung: Rung, setting: Setting) -> Parameters:
    key = (Parameters, rung.method, rung.quantization, rung.dtype)
    return setting.once(key, lambda: _parameters(rung, setting))


def _parameters(rung: Rung, setting: Setting) -> Parameters:
    lora = setting.request.lora if rung.method is Method.LORA else None
    groups = setting.known_parameters.get(lora) or _guessed(
        setting.shape, lora, scores=setting.request.task.traits.scores
    )
    are_wide = setting.facts is not None and setting.facts.has_wide_scales
    return _known(groups, rung.quantization, element_bytes(rung.dtype), are_wide)


@lru_cache(maxsize=64)  # settings that differ in other things have the same ones
def _known(
    groups: tuple[ParameterGroup, ...], quantization: Quantization, width_bytes: int, are_wide: bool
) -> Parameters:
    """The parameters of `groups`, what is frozen of the linear layers' weights quantised."""
    if quantization is Quantization.NONE:
        return Parameters(groups)
    kept = tuple(group for group in groups if not is_quantizable(group))
    made = [group for group in groups if is_quantizable(group)]
    packed = (
        replace(group, element_count=-(-packed_bytes(quantization, group.element_count) // width_bytes))
        for group in made
    )
    scales = (
        group.tensor_count * scales_bytes(quantization, group.element_count, group.linear_rows, are_wide=are_wide)
        for group in made
    )
    return Parameters(
        (*kept, *packed),
        width_bytes // STORED_BYTES,
        sum(group.tensor_count * group.element_count for group in made),
        max((group.element_count for group in made), default=0),
        sum(scales),
    )


def is_quantizable(group: ParameterGroup) -> bool:
    """Whether a quantised base keeps the group's weights in fewer bits."""
    return group.linear_rows > 0 and not group.is_trained


def lora_parameter_count(shape: ModelShape, lora: Lora) -> int:
    """Parameters of the adapters: r (inputs + outputs) for each target of each layer (Hu et al., LoRA, 2021, 4.1).

    Exact for Llama-like layers. Other targets are counted as hidden × hidden: right in order of magnitude only, until
    the model's class has counted them.
    """
    targets = _linear_shapes(shape)
    square = (shape.hidden_size, shape.hidden_size)
    sides = sum(sum(targets.get(name.rsplit(".", 1)[-1], square)) for name in _guessed_names(lora))
    return shape.layer_count * lora.r * sides


@lru_cache(maxsize=64)
def _guessed(shape: ModelShape, lora: Lora | None, *, scores: bool) -> tuple[ParameterGroup, ...]:
    """The tensors of a model that was not traced: the counts are right, the tensors are those of a Llama: two
    embeddings and seven alike in each layer. Where it `scores`, a vector that is always trained is in the place of the
    second; a model whose embeddings are tied has more by one."""
    is_trained = lora is None
    embedding_count = shape.vocabulary_size * shape.hidden_size
    tables = 2 if 2 * embedding_count < shape.parameter_count else 0
    tensor_count = _TENSORS_PER_LAYER * shape.layer_count
    each, rest = divmod(shape.parameter_count - tables * embedding_count, tensor_count)
    groups = [
        ParameterGroup(embedding_count, min(tables, 1) if scores else tables, is_trained, 2),
        ParameterGroup(each, tensor_count, is_trained, 2, shape.hidden_size),
        ParameterGroup(rest, 1, is_trained, 2),
        ParameterGroup(shape.hidden_size if scores else 0, 1, True, 2),
    ]
    if lora is not None:
        pairs = 2 * len(_guessed_names(lora)) * shape.layer_count
        each, rest = divmod(lora_parameter_count(shape, lora), pairs)
        groups += [ParameterGroup(each, pairs, True, 2), ParameterGroup(rest, 1, True, 2)]
    return tuple(group for group in groups if group.element_count * group.tensor_count > 0)


def _guessed_names(lora: Lora) -> tuple[str, ...]:
    """The targets of a Llama: what PEFT's table names for most families, or all its linear layers."""
    meant = {AUTO_TARGETS: USUAL_TARGETS, ALL_LINEAR: _LINEAR_NAMES}
    names = (name for word in lora.target_modules for name in meant.get(word, (word,)))
    return tuple(dict.fromkeys(name for name in names if name not in lora.exclude_modules))


def _linear_shapes(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of a Llama layer's linear modules, grouped-query attention included."""
    hidden, wide = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.head_count * shape.head_size, shape.key_value_head_count * shape.head_size
    sides = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
    return dict(zip(_LINEAR_NAMES, [*sides, (hidden, wide), (hidden, wide), (wide, hidden)], strict=True))
