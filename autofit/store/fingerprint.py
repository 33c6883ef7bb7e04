"""What a trace depends on, but for its micro-step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .serialization import digest
from .versions import Versions

_SAYS_NOTHING = {"_name_or_path", "_commit_hash", "transformers_version"}


def trace_fingerprint(
    config: Mapping[str, Any], *, versions: Versions, tracer_version: int, extra_arguments: tuple[str, ...] = ()
) -> str:
    """The fingerprint of a model's config.json, the libraries that build and run it, and the tracer's own version.

    `extra_arguments` are the request's, where they change what the trainer computes. Where a config came from and who
    wrote it make no difference.
    """
    libraries = (versions.torch, versions.transformers, versions.peft, versions.trl)
    return digest(_essence(config), libraries, tracer_version, extra_arguments)


def _essence(value: Any) -> Any:
    """A config without the keys that say nothing of the computation, at any depth."""
    if isinstance(value, Mapping):
        return {key: _essence(item) for key, item in value.items() if key not in _SAYS_NOTHING}
    return [_essence(item) for item in value] if isinstance(value, (list, tuple)) else value
