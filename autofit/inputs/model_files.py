"""A model as the user names it, a folder or a hub id: which files it is, and its shape. Nothing heavy is fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.request import Request

from .found_model import ModelFiles, describe, read_config
from .hub import Hub, HubLibrary
from .hub_model import read_hub_model
from .local_path import Lies, nearest, nearest_text, unreadable, what_lies_at
from .repository import CONFIG, no_config
from .snapshot import find_snapshot
from .weights import ENTRY_FILES, read_tensors


def read_model_files(model: str, library: HubLibrary | None = None, *, needs_weights: bool = True) -> ModelFiles:
    """The files of `model`, a folder or a hub id, from config.json and the headers of its weights.

    Without `needs_weights` a config.json may be all that there is: then parameters are counted by formula, and nothing
    is to be downloaded. `library` stands in for the module `huggingface_hub`. UsageError, in one sentence, for whatever
    is wrong.
    """
    lies = what_lies_at(model)
    if lies is Lies.FOLDER:
        return _read_folder(model, Path(model).expanduser(), needs_weights)
    if lies is Lies.FILE:
        raise UsageError(f"{model} is a file: name the folder with config.json and the weights, or a hub id.")
    if model.startswith(("/", "./", "../", "~")) or model.endswith("/") or model.count("/") > 1:
        raise UsageError(
            f"There is no folder {model}: name one with config.json and the weights, or a hub id.{nearest_text(model)}"
        )
    return _read_hub(model, library, needs_weights)


def _read_hub(model: str, library: HubLibrary | None, needs_weights: bool) -> ModelFiles:
    """The model of the hub; an error tells of a folder with a like name, too, for that may be what was meant."""
    try:
        return read_hub_model(model, Hub(library), needs_weights=needs_weights)
    except UsageError as error:
        near = nearest(model)
        if near is None or not Path(near, CONFIG).is_file():
            raise
        raise UsageError(f"{error}\nThe nearest here is the folder {near}.") from error


def model_source(request: Request) -> tuple[dict[str, Any], str]:
    """The config.json of a request's model that was read once already, and a digest of the code beside it: empty where
    none may run."""
    path = _config_path(request.model)
    config = read_config(request.model, path)
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
    try:
        names = tuple(file.name for file in folder.iterdir())
    except OSError as error:
        raise unreadable(model, error) from error
    if CONFIG not in names:
        raise UsageError(no_config(model, names))
    config = read_config(model, path)
    has_weights = any((folder / name).exists() for name in ENTRY_FILES)
    return describe(str(folder), config, read_tensors(folder) if needs_weights or has_weights else None)
