"""A model as the user names it, a folder or a hub id: which files it is, and its shape. Nothing heavy is fetched."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.model import ModelShape
from autofit.domain.request import Request

from .hub import Hub, HubLibrary
from .model_config import check_kind, quantization_method, read_shape
from .weights import INDEX_FILE, OLD_FILES, SINGLE_FILE, Tensor, count_parameters, has_all_weights, read_tensors

_HUB_FORMAT_SUFFIX = "-hf"
_WEIGHTS_FILES = (SINGLE_FILE, INDEX_FILE, OLD_FILES)


@dataclass(frozen=True)
class ModelFiles:
    path_or_id: str  # what to load: differs from what was asked for where a note says so
    shape: ModelShape | None  # at first sight; None where config.json leaves sizes to the model's class
    notes: tuple[str, ...] = ()


def read_model_files(model: str, library: HubLibrary | None = None, *, needs_weights: bool = True) -> ModelFiles:
    """The files of `model`, a folder or a hub id, from config.json and the headers of its weights.

    Without `needs_weights` a folder may hold a config.json alone: then parameters are counted by formula. `library`
    stands in for the module `huggingface_hub`. UsageError, in one sentence, for whatever is wrong.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _read_folder(model, folder, needs_weights)
    if folder.exists():
        raise UsageError(f"{model} is a file: name the folder with config.json and the weights, or a hub id.")
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise UsageError(f"There is no folder {model}: name one with config.json and the weights, or a hub id.")
    return _read_hub(model, Hub(library))


def model_source(request: Request) -> tuple[dict[str, Any], str]:
    """The config.json of a request's model that was read once already, and a digest of the code beside it: empty where
    none may run."""
    folder = Path(request.model)
    path = folder / "config.json" if folder.is_dir() else Hub(None).config_path(request.model)
    assert path is not None
    config = _read_config(request.model, path)
    return config, _code_digest(path.parent, config) if request.trust_remote_code else ""


def _code_digest(folder: Path, config: dict[str, Any]) -> str:
    """Of the folder's Python files; of a snapshot of the hub, which may lack them yet, by its commit too."""
    digest = hashlib.sha256(repr((folder.name, config.get("auto_map"))).encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _read_folder(model: str, folder: Path, needs_weights: bool) -> ModelFiles:
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(_no_config(model, tuple(file.name for file in folder.iterdir())))
    config = _read_config(model, path)
    has_weights = any(any(folder.glob(pattern)) for pattern in _WEIGHTS_FILES)
    return _describe(str(folder), config, read_tensors(folder) if needs_weights or has_weights else None)


def _read_hub(model_id: str, hub: Hub) -> ModelFiles:
    path = hub.config_path(model_id)
    if path is None:
        return _read_hub_format(model_id, hub)
    config = _read_config(model_id, path)
    if has_all_weights(path.parent):  # an earlier run left the whole model in the cache
        return _describe(model_id, config, read_tensors(path.parent))
    tensors = hub.tensors(model_id)
    if tensors is None and not any(fnmatch(name, OLD_FILES) for name in hub.files(model_id)):
        raise UsageError(f"{model_id} has no weights on the hub that transformers loads: choose another model.")
    return _describe(model_id, config, tensors)


def _read_hub_format(model_id: str, hub: Hub) -> ModelFiles:
    """The same model in the transformers format, which some publishers keep beside their own under a longer name."""
    other_id = model_id + _HUB_FORMAT_SUFFIX
    refusal = UsageError(_no_config(model_id, hub.files(model_id)))
    if model_id.endswith(_HUB_FORMAT_SUFFIX) or not hub.has_config(other_id):
        raise refusal
    note = f"{model_id} has no config.json; its transformers format lies in {other_id}, which is used."
    try:
        found = _read_hub(other_id, hub)
    except UsageError as error:
        raise UsageError(f"{model_id} lies in the transformers format in {other_id}. {error}") from error
    return ModelFiles(found.path_or_id, found.shape, (note, *found.notes))


def _describe(path_or_id: str, config: dict[str, Any], tensors: tuple[Tensor, ...] | None) -> ModelFiles:
    check_kind(path_or_id, config)
    if quantization_method(config) is not None:  # several weights share one stored number
        tensors = None
    is_tied = config.get("tie_word_embeddings") is True
    counted = None if tensors is None else count_parameters(tensors, is_tied=is_tied)
    return ModelFiles(path_or_id, read_shape(path_or_id, config, counted))


def _no_config(model: str, files: tuple[str, ...]) -> str:
    if "adapter_config.json" in files:
        return f"{model} is a LoRA adapter, not a model: name the base model that its adapter_config.json names."
    if any(name.endswith(".gguf") for name in files):
        return f"{model} holds GGUF files, which are not trained: name the model that they were made from."
    return f"{model} has no config.json, so it is not in the transformers format: name a model that is."


def _read_config(model: str, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise UsageError(f"The config.json of {model} is not JSON ({error}): download it again.") from error
    if not isinstance(config, dict):
        raise UsageError(f"The config.json of {model} is not a JSON object: download it again.")
    return config
