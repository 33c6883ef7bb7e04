"""A repository of the hub by the list of its files: what a training needs of it, or in one sentence what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from autofit.domain.errors import UsageError

from .weights import entry_file, is_index

CONFIG = "config.json"

_TEMPLATES = "additional_chat_templates/*.jinja"  # the one folder that transformers looks into
# Of the files beside the weights, which tokenizers name as they like, those that no training loads.
_NOT_LOADED = (
    ".*", "*.md", "LICENSE*", "USE_POLICY*", "trainer_state.json", "*.index.json", "*.safetensors", "*.bin", "*.pt",
    "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.onnx_data", "*.gguf", "*.ggml", "*.npz", "*.pkl",
    "*.nemo", "*.tflite", "*.pb", "*.zip", "*.tar", "*.gz", "*.7z", "*.whl", "*.parquet", "*.arrow", "*.log",
    "*.tfevents.*", "*.png", "*.jpg", "*.jpeg", "*.gif", "*.svg", "*.webp", "*.pdf", "*.mp4", "*.mp3", "*.wav",
    "*.ipynb",
)  # fmt: skip
# One of these is there wherever transformers has a tokenizer to load.
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model*", "*.model", "vocab.*", "tekken.json", "*.tiktoken",
)  # fmt: skip
_OTHER_FORMATS = (
    ("*.gguf", "GGUF files ({}), which are not trained: name the model that they were made from"),
    ("*.pth", "its publisher's own format ({}): name the repository that has it in the transformers format"),
    ("*.h5", "weights for TensorFlow ({}): name a repository that has them as safetensors"),
    ("*.msgpack", "weights for Flax ({}): name a repository that has them as safetensors"),
    ("*.onnx", "weights for ONNX ({}): name a repository that has them as safetensors"),
)


@dataclass(frozen=True)
class HubFile:
    name: str
    size_bytes: int


def loaded_beside_weights(files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    """The files that are loaded beside the weights: configs, the tokenizer's, templates, code. A few megabytes."""
    return tuple(file for file in files if _is_loaded_beside_weights(file.name))


def weight_files(
    model: str, files: Sequence[HubFile], read_index: Callable[[str], Sequence[str]]
) -> tuple[HubFile, ...]:
    """The files from which transformers loads the weights, in one format; `read_index` gives the shards of an index.

    UsageError where there are none.
    """
    by_name = {file.name: file for file in files}
    entry = entry_file(by_name)
    if entry is None:
        raise UsageError(no_weights(model, list(by_name)))
    names = [entry, *read_index(entry)] if is_index(entry) else [entry]
    if lost := [name for name in names if name not in by_name]:
        raise UsageError(f"The {entry} of {model} names {lost[0]}, which its repository lacks: choose another model.")
    return tuple(by_name[name] for name in names)


def no_config(model: str, names: Sequence[str]) -> str:
    """Says what `model`, which has no config.json among `names`, is instead."""
    if "adapter_config.json" in names:
        return f"{model} is a LoRA adapter, not a model: name the base model that its adapter_config.json names."
    if any(name.endswith(".gguf") for name in names):
        return f"{model} holds GGUF files, which are not trained: name the model that they were made from."
    return f"{model} has no {CONFIG}, so it is not in the transformers format: name a model that is."


def no_weights(model: str, names: Sequence[str]) -> str:
    """Says what `model` holds instead of weights that transformers loads."""
    for pattern, what in _OTHER_FORMATS:
        if found := [name for name in names if fnmatch(name, pattern)]:
            return f"{model} has no weights that transformers loads, but {what.format(found[0])}."
    return f"{model} has no weights among its files: choose another model."


def check_tokenizer(model: str, names: Sequence[str]) -> None:
    """UsageError where no tokenizer is among `names`: the data cannot be read without one."""
    if not any(fnmatch(name, pattern) for name in names if "/" not in name for pattern in _TOKENIZER):
        raise UsageError(
            f"{model} has no tokenizer among its files (tokenizer.json, tokenizer.model, vocab.json), and the data "
            f"cannot be read without one: run `hf download {model} --local-dir FOLDER`, put the tokenizer of its "
            "family there, and name that folder."
        )


def _is_loaded_beside_weights(name: str) -> bool:
    if "/" in name:
        return fnmatch(name, _TEMPLATES)
    return not any(fnmatch(name, pattern) for pattern in _NOT_LOADED)
