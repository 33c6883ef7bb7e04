"""A file of the hub that is fetched in parts, over as many runs as it takes.

The hub's own client begins an unfinished file anew (its pull request 4306: where a file system does not honour locks,
two processes would write into one); but a shard of a large model is 5 to 50 GB. So its reader and its cache are used,
with a name for the unfinished file that stays the same. What was put together from parts is compared with its SHA-256.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SUFFIX = ".incomplete"
_SHA256_DIGITS = 64
_PIECE_BYTES = 2**20


MakeMeter = Callable[[int], type[Any]]
"""Makes a class as the hub's client makes its progress bars of, for a file of which so many bytes were here before."""


def cache_folder() -> Path:
    """Where the hub's client keeps all that it fetches."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def unfinished_bytes(model: str) -> int:
    """The bytes of the model's files that were begun and are not whole."""
    unfinished = _blobs(model).glob(f"*{_SUFFIX}")
    return sum(path.stat().st_size for path in unfinished if path.stem.isalnum())  # a dot: another program's own


@dataclass(frozen=True)
class PartialFile:
    """A file of `model` as far as it is here. `blob` is where the cache has it once it is whole; None where it is not
    fetched in parts."""

    model: str
    name: str
    commit: str
    size_bytes: int
    blob: Path | None

    @property
    def here_bytes(self) -> int:
        """The bytes that are here, of the whole or of its beginning."""
        if self.blob is None:
            return 0
        paths = (self.blob, self._unfinished)
        return next((path.stat().st_size for path in paths if path.exists()), 0)

    def complete(self, meter: MakeMeter) -> None:
        """Brings what is missing into the cache. Raises what the hub's client raises."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # exported without a word

        if self.blob is None:
            hf_hub_download(self.model, self.name, revision=self.commit, tqdm_class=meter(0))
            return
        lock = cache_folder() / ".locks" / self.blob.parents[1].name / f"{self.blob.name}.lock"
        for folder in (self.blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not self.blob.exists():
                self._append(meter)
                os.replace(self._unfinished, self.blob)
        hf_hub_download(self.model, self.name, revision=self.commit)  # only names it in the snapshot

    def _append(self, meter: MakeMeter) -> None:
        """Fetches what is missing; all of it where the parts are not those of one file."""
        here_bytes = self.here_bytes
        begin_bytes = here_bytes if here_bytes <= self.size_bytes else 0
        self._fetch_from(begin_bytes, meter(here_bytes))
        if begin_bytes and len(self._name) == _SHA256_DIGITS and _sha256(self._unfinished) != self._name:
            self._fetch_from(0, meter(self.size_bytes))

    def _fetch_from(self, begin_bytes: int, meter: type[Any]) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        url = hf_hub_url(self.model, self.name, revision=self.commit)  # signed anew at each try, where it leads
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # of what is packed there are no parts
        with self._unfinished.open("r+b" if self._unfinished.exists() else "w+b") as file:
            file.truncate(begin_bytes)
            file.seek(begin_bytes)
            http_get(
                url, file, resume_size=begin_bytes, headers=headers, expected_size=self.size_bytes, tqdm_class=meter
            )

    @property
    def _unfinished(self) -> Path:
        assert self.blob is not None
        return self.blob.with_name(self.blob.name + _SUFFIX)

    @property
    def _name(self) -> str:
        assert self.blob is not None
        return self.blob.name


def find_partial_file(model: str, name: str, commit: str) -> PartialFile:
    """The file as far as it is here; asks the hub what it is. Raises what the hub's client raises."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    facts = get_hf_file_metadata(hf_hub_url(model, name, revision=commit), retry_on_errors=True)
    if facts.etag is None or facts.size is None or facts.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        return PartialFile(model, name, commit, facts.size or 0, None)
    return PartialFile(model, name, commit, facts.size, _blobs(model) / facts.etag)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _blobs(model: str) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return cache_folder() / repo_folder_name(repo_id=model, repo_type="model") / "blobs"
