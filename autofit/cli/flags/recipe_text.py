"""The text of a recipe as values that are all texts, lists and objects of such."""

from __future__ import annotations

from typing import Any

import yaml

from autofit.domain.errors import UsageError

_MOST_VALUES = 10_000
_MOST_CHARACTERS = 1_000_000
_DEEPEST = 20  # brackets within brackets: the reader takes time by their square


class _Loader(yaml.BaseLoader):
    """Leaves every value a text, as on the command line: `on` stays a word and 2e-4 needs no dot. Refuses a key that
    stands twice, of which YAML's own loader takes the last in silence."""

    file = ""
    value_count = 0

    def fetch_flow_collection_start(self, kind: type[yaml.Token]) -> None:
        if self.flow_level >= _DEEPEST:
            raise UsageError(f"{self.file} is nested too deep for a recipe: write flags one a line, like `seq: 2048`.")
        super().fetch_flow_collection_start(kind)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        self.value_count += 1
        if self.value_count > _MOST_VALUES:
            raise UsageError(f"{self.file} holds more than {_MOST_VALUES:,} values, which no recipe needs.")
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise UsageError(f"{self.file}, line {line}: a key is one word, like `seq: 2048`.")
            name = str(key.value).replace("_", "-")
            if name in lines:
                raise UsageError(
                    f"{self.file}, line {line}: {key.value} is given twice, in line {lines[name]} already: keep one."
                )
            lines[name] = line
        body: dict[Any, Any] = super().construct_mapping(node, deep)
        return body


def load_text(text: str, file: str) -> Any:
    """What a YAML text holds. yaml.YAMLError where it is none, UsageError, with the line, for what a recipe cannot
    be."""
    if len(text) > _MOST_CHARACTERS:
        raise UsageError(f"{file} holds more than {_MOST_CHARACTERS:,} characters, which no recipe needs.")
    loader = _Loader(text)
    loader.file = file
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
