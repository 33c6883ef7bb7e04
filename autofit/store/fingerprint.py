"""What a model's facts depend on, and what its traces do, but for their micro-steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autofit.domain.request import Lora

from .serialization import digest
from .versions import Versions

ModelSource = tuple[Mapping[str, Any], str]
"""A model's config.json, and a digest of the code beside it, empty where none may run."""

_SAYS_NOTHING = {"_name_or_path", "_commit_hash", "transformers_version"}


def trace_fingerprint(
    source: ModelSource, *, versions: Versions, tracer_version: int, extra_arguments: tuple[str, ...] = ()
) -> str:
    """The fingerprint of a model's config.json, the libraries that build and run it, and the tracer's own version.

    `extra_arguments` are the request's, where they change what the trainer computes. Where a config came from and who
    wrote it make no difference.
    """
    config, code = source
    libraries = (versions.torch, versions.transformers, versions.peft, versions.trl)
    own = (code,) if code else ()
    return digest(_essence(config), libraries, tracer_version, extra_arguments, *own)


def facts_fingerprint(
    source: ModelSource, *, versions: Versions, describer_version: int, lora: Lora, scores: bool = False
) -> str:
    """The fingerprint of a model's config.json, the libraries that build it, where its adapters go, and whether its
    head is one that scores."""
    config, code = source
    libraries = (versions.torch, versions.transformers, versions.peft)
    head = ("scores",) if scores else ()
    return digest(_essence(config), code, libraries, describer_version, lora, *head)


def _essence(value: Any) -> Any:
    """A config without the keys that say nothing of the computation, at any depth."""
    if isinstance(value, Mapping):
        return {key: _essence(item) for key, item in value.items() if key not in _SAYS_NOTHING}
    return [_essence(item) for item in value] if isinstance(value, (list, tuple)) else value
