"""A model of the hub as far as it lies in the local cache, at one commit; the hub is not asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .repository import CONFIG, HubFile, loaded_beside_weights, weight_files
from .weights import has_all_weights, shards_of


@dataclass(frozen=True)
class Snapshot:
    """One commit in the cache. `files` are all that the commit has, None where nobody kept the list."""

    model: str
    folder: Path
    files: tuple[HubFile, ...] | None

    @property
    def commit(self) -> str:
        return self.folder.name

    @property
    def has_weights(self) -> bool:
        return has_all_weights(self.folder)

    @property
    def is_whole(self) -> bool:
        """Whether all that a training loads is known to be there."""
        return self.has_small_files and self.has_weights

    @property
    def has_small_files(self) -> bool:
        """Whether all that is loaded beside the weights is known to be there."""
        return self.files is not None and not self.lacking(loaded_beside_weights(self.files))

    def lacking(self, files: Sequence[HubFile]) -> tuple[HubFile, ...]:
        return tuple(file for file in files if not (self.folder / file.name).exists())

    def weights(self) -> tuple[HubFile, ...]:
        """The files of the weights; an index must be there. UsageError where the commit has none that are loaded."""
        return weight_files(self.model, self.files or (), lambda name: shards_of(self.folder / name))


def find_snapshot(model_id: str) -> Snapshot | None:
    """The snapshot that the cache has of the main branch; None where not even its config.json is there."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        path = huggingface_hub.try_to_load_from_cache(model_id, CONFIG)
    except errors.HFValidationError:
        return None
    if not isinstance(path, str):
        return None
    folder = Path(path).parent
    return Snapshot(model_id, folder, _listed(model_id, folder.name))


def local_options(model: str, *, needs_weights: bool = False) -> dict[str, Any]:
    """The options with which `from_pretrained` of `model`, a folder or a hub id, asks the hub for nothing; none where
    it must, since the cache is not known to hold all of it.

    Else every rank asks for every file: thousands of requests in a search, which the hub answers with 429.
    """
    snapshot = None if Path(model).is_dir() else find_snapshot(model)
    if snapshot is None or not snapshot.has_small_files or (needs_weights and not snapshot.has_weights):
        return {}
    if _has_code_elsewhere(snapshot.folder / CONFIG):
        return {}
    return {"revision": snapshot.commit, "local_files_only": True}


def _listed(model_id: str, commit: str) -> tuple[HubFile, ...] | None:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        files = huggingface_hub.get_cached_repo_tree(model_id, revision=commit)
    except errors.CachedRepoTreeNotFoundError:
        return None
    return tuple(HubFile(file.path, file.size) for file in files)


def _has_code_elsewhere(config: Path) -> bool:
    """Whether the model's code lies in another repository (`owner/name--module.Class`)."""
    try:
        return "--" in str(json.loads(config.read_text(encoding="utf-8")).get("auto_map"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return False  # whoever loads it says what is wrong with it
