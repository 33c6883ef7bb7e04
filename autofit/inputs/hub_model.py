"""A model of the hub: whole in the cache, asked for, or under the name of its transformers format."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.errors import UsageError

from .download import Download
from .found_model import ModelFiles, describe, read_config
from .hub import Hub, Listing
from .hub_error import HubUnavailable, unknown
from .repository import CONFIG, check_tokenizer, loaded_beside_weights, no_config, no_weights
from .snapshot import Snapshot, find_snapshot
from .weights import entry_file, is_index, read_tensors

_HUB_FORMAT_SUFFIX = "-hf"


def read_hub_model(model_id: str, hub: Hub, *, needs_weights: bool) -> ModelFiles:
    """The model as the cache has it, or else as the hub does; `needs_weights` as in `read_model_files`."""
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


def check_cached(model_id: str) -> None:
    """Checks the weights of a model that the cache has, from their headers; UsageError as `read_tensors`."""
    cached = find_snapshot(model_id)
    if cached is not None and cached.has_weights:
        read_tensors(cached.folder)


def _read_cached(snapshot: Snapshot) -> ModelFiles:
    """The model as it lies in the cache: with all its weights, or with its config.json alone."""
    config = read_config(snapshot.model, snapshot.folder / CONFIG)
    return describe(snapshot.model, config, read_tensors(snapshot.folder) if snapshot.has_weights else None)


def _read_online(model_id: str, listing: Listing, hub: Hub, *, needs_weights: bool) -> ModelFiles:
    if entry_file(listing.names) is None:
        raise UsageError(no_weights(model_id, listing.names))
    snapshot = Snapshot(model_id, hub.config_path(model_id).parent, listing.files)
    config = read_config(model_id, snapshot.folder / CONFIG)
    tensors = read_tensors(snapshot.folder) if snapshot.has_weights else hub.tensors(model_id)
    found = describe(model_id, config, tensors)
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
    cached_model = _read_cached(found)
    return replace(cached_model, notes=(*notes, *cached_model.notes))


def _read_hub_format(model_id: str, listing: Listing, hub: Hub, *, needs_weights: bool) -> ModelFiles:
    """The same model in the transformers format, which some publishers keep beside their own under a longer name."""
    other_id = _other_format(model_id)
    if not _is_in_hub_format(other_id, hub):
        raise UsageError(no_config(model_id, listing.names))
    note = f"{model_id} has no config.json; its transformers format lies in {other_id}, which is used."
    try:
        found = read_hub_model(other_id, hub, needs_weights=needs_weights)
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
