"""A model as the user names it, a folder or a hub id: which files it is, and its shape. Nothing heavy is fetched."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.model import ModelShape
from autofit.domain.request import Request

from .download import Download
from .hub import Hub, HubLibrary, Listing
from .hub_error import HubUnavailable, unknown
from .model_config import check_kind, quantization_method, read_shape
from .repository import CONFIG, check_tokenizer, loaded_beside_weights, no_config, no_weights
from .snapshot import Snapshot, find_snapshot
from .weights import ENTRY_FILES, Tensor, count_parameters, entry_file, is_index, read_tensors

_HUB_FORMAT_SUFFIX = "-hf"


@dataclass(frozen=True)
class ModelFiles:
    path_or_id: str  # what to load: differs from what was asked for where a note says so
    shape: ModelShape | None  # at first sight; None where config.json leaves sizes to the model's class
    notes: tuple[str, ...] = ()
    download: Download | None = None  # what a training needs before its full run; None where nothing is to be had


def read_model_files(model: str, library: HubLibrary | None = None, *, needs_weights: bool = True) -> ModelFiles:
    """The files of `model`, a folder or a hub id, from config.json and the headers of its weights.

    Without `needs_weights` a config.json may be all that there is: then parameters are counted by formula, and nothing
    is to be downloaded. `library` stands in for the module `huggingface_hub`. UsageError, in one sentence, for whatever
    is wrong.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _read_folder(model, folder, needs_weights)
    if folder.exists():
        raise UsageError(f"{model} is a file: name the folder with config.json and the weights, or a hub id.")
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise UsageError(f"There is no folder {model}: name one with config.json and the weights, or a hub id.")
    return _read_hub(model, Hub(library), needs_weights=needs_weights)


def model_source(request: Request) -> tuple[dict[str, Any], str]:
    """The config.json of a request's model that was read once already, and a digest of the code beside it: empty where
    none may run."""
    path = _config_path(request.model)
    config = _read_config(request.model, path)
    return config, _code_digest(path.parent, config) if request.trust_remote_code else ""


def _config_path(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model) / CONFIG
    snapshot = find_snapshot(model)
    return Hub().config_path(model) if snapshot is None else snapshot.folder / CONFIG


def _code_digest(folder: Path, config: dict[str, Any]) -> str:
    """Of the folder's Python files; of a snapshot of the hub, which may lack them yet, by its commit too."""
    digest = hashlib.sha256(repr((folder.name, config.get("auto_map"))).encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _read_folder(model: str, folder: Path, needs_weights: bool) -> ModelFiles:
    path = folder / CONFIG
    if not path.exists():
        raise UsageError(no_config(model, tuple(file.name for file in folder.iterdir())))
    config = _read_config(model, path)
    has_weights = any((folder / name).exists() for name in ENTRY_FILES)
    return _describe(str(folder), config, read_tensors(folder) if needs_weights or has_weights else None)


def _read_hub(model_id: str, hub: Hub, *, needs_weights: bool) -> ModelFiles:
    cached = find_snapshot(model_id)
    if cached is not None and (cached.is_whole or (cached.has_weights and not needs_weights)):
        return _read_cached(cached)
    try:
        listing = hub.find(model_id)
        if listing is None:
            raise UsageError(_unknown(model_id, hub))
        if CONFIG not in listing.names:
            return _read_hub_format(model_id, listing, hub, needs_weights=needs_weights)
        return _read_online(model_id, listing, hub, needs_weights=needs_weights)
    except HubUnavailable as error:
        return _read_without_hub(model_id, cached, error, needs_weights=needs_weights)


def _read_cached(snapshot: Snapshot) -> ModelFiles:
    """The model as it lies in the cache: with all its weights, or with its config.json alone."""
    config = _read_config(snapshot.model, snapshot.folder / CONFIG)
    return _describe(snapshot.model, config, read_tensors(snapshot.folder) if snapshot.has_weights else None)


def _read_online(model_id: str, listing: Listing, hub: Hub, *, needs_weights: bool) -> ModelFiles:
    if entry_file(listing.names) is None:
        raise UsageError(no_weights(model_id, listing.names))
    snapshot = Snapshot(model_id, hub.config_path(model_id).parent, listing.files)
    config = _read_config(model_id, snapshot.folder / CONFIG)
    tensors = read_tensors(snapshot.folder) if snapshot.has_weights else hub.tensors(model_id)
    found = _describe(model_id, config, tensors)
    if not needs_weights:
        return found
    check_tokenizer(model_id, listing.names)
    return replace(found, download=_download(snapshot, hub))


def _download(snapshot: Snapshot, hub: Hub) -> Download:
    """What the cache lacks of the snapshot; the index of the weights, which says what they are, is fetched."""
    entry = entry_file([file.name for file in snapshot.files or ()])
    if entry is not None and is_index(entry):
        hub.fetch(snapshot.model, entry)
    small = loaded_beside_weights(snapshot.files or ())
    return Download(snapshot.model, snapshot.commit, snapshot.lacking(small), snapshot.lacking(snapshot.weights()))


def _read_without_hub(
    model_id: str, cached: Snapshot | None, error: HubUnavailable, *, needs_weights: bool
) -> ModelFiles:
    """What the cache has of the model, or where it has nothing, of the same one in the transformers format; the error
    where that is not enough."""
    found = cached or find_snapshot(_other_format(model_id))
    if found is None or (needs_weights and not found.has_weights):
        raise error
    notes = []
    if found.model != model_id:
        notes.append(
            f"{error.trouble.what}: {found.model}, {model_id} in the transformers format, lies in the cache and is used"
        )
    if not found.has_weights:
        notes.append(f"{error.trouble.what}: the parameters of {found.model} are counted from its config.json alone")
    return replace(_read_cached(found), notes=tuple(notes))


def _read_hub_format(model_id: str, listing: Listing, hub: Hub, *, needs_weights: bool) -> ModelFiles:
    """The same model in the transformers format, which some publishers keep beside their own under a longer name."""
    other_id = _other_format(model_id)
    if not _is_in_hub_format(other_id, hub):
        raise UsageError(no_config(model_id, listing.names))
    note = f"{model_id} has no config.json; its transformers format lies in {other_id}, which is used."
    try:
        found = _read_hub(other_id, hub, needs_weights=needs_weights)
    except HubUnavailable:
        raise
    except UsageError as error:
        raise UsageError(f"{model_id} lies in the transformers format in {other_id}. {error}") from error
    return replace(found, notes=(note, *found.notes))


def _unknown(model_id: str, hub: Hub) -> str:
    other_id = _other_format(model_id)
    if _is_in_hub_format(other_id, hub):
        return f"'{model_id}' is not on the Hugging Face hub, but {other_id} is: name that."
    return unknown(model_id)


def _other_format(model_id: str) -> str:
    return model_id + _HUB_FORMAT_SUFFIX


def _is_in_hub_format(model_id: str, hub: Hub) -> bool:
    if model_id.endswith(2 * _HUB_FORMAT_SUFFIX):
        return False
    if find_snapshot(model_id) is not None:
        return True
    listing = hub.find(model_id)
    return listing is not None and CONFIG in listing.names


def _describe(path_or_id: str, config: dict[str, Any], tensors: tuple[Tensor, ...] | None) -> ModelFiles:
    check_kind(path_or_id, config)
    if quantization_method(config) is not None:  # several weights share one stored number
        tensors = None
    is_tied = config.get("tie_word_embeddings") is True
    counted = None if tensors is None else count_parameters(tensors, is_tied=is_tied)
    return ModelFiles(path_or_id, read_shape(path_or_id, config, counted))


def _read_config(model: str, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise UsageError(f"The config.json of {model} is not JSON ({error}): download it again.") from error
    if not isinstance(config, dict):
        raise UsageError(f"The config.json of {model} is not a JSON object: download it again.")
    return config
