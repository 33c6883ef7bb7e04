"""A file of the hub that is fetched in parts, over as many runs as it takes.

The hub's own client begins an unfinished file anew (its pull request 4306: where a file system does not honour locks,
two processes would write into one); but a shard of a large model is 5 to 50 GB. So its reader and its cache are used,
with a name for the unfinished file that stays the same. What was put together from parts is compared with its SHA-256.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

_SUFFIX = ".incomplete"
_SHA256_DIGITS = 64
_PIECE_BYTES = 2**20


def cache_folder() -> Path:
    """Where the hub's client keeps all that it fetches."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def unfinished_bytes(model: str) -> int:
    """The bytes of the model's files that were begun and are not whole."""
    unfinished = _blobs(model).glob(f"*{_SUFFIX}")
    return sum(path.stat().st_size for path in unfinished if path.stem.isalnum())  # a dot: another program's own


def fetch_in_parts(model: str, name: str, commit: str, meter: type[Any]) -> None:
    """Brings a file of `model` into the cache; `meter`, a bar of tqdm's kind, is told of each part. Raises what the
    hub's client raises."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # exported without a word

    url = hf_hub_url(model, name, revision=commit)
    facts = get_hf_file_metadata(url, retry_on_errors=True)
    if facts.etag is None or facts.size is None or facts.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        hf_hub_download(model, name, revision=commit, tqdm_class=meter)
        return
    blob = _blobs(model) / facts.etag
    lock = cache_folder() / ".locks" / blob.parents[1].name / f"{facts.etag}.lock"
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if not blob.exists():
            _complete(blob, url, facts.size, meter)
    hf_hub_download(model, name, revision=commit)  # only names it in the snapshot


def _complete(blob: Path, url: str, size_bytes: int, meter: type[Any]) -> None:
    """Fetches what is missing of a blob; from its beginning where the parts are not those of one file."""
    unfinished = blob.with_name(blob.name + _SUFFIX)
    here_bytes = unfinished.stat().st_size if unfinished.exists() else 0
    if here_bytes > size_bytes:
        unfinished.unlink()
        here_bytes = 0
    _append(unfinished, url, here_bytes, size_bytes, meter)
    if here_bytes and len(blob.name) == _SHA256_DIGITS and _sha256(unfinished) != blob.name:
        unfinished.unlink()
        meter().update(-size_bytes)
        _append(unfinished, url, 0, size_bytes, meter)
    os.replace(unfinished, blob)


def _append(path: Path, url: str, here_bytes: int, size_bytes: int, meter: type[Any]) -> None:
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}  # of what is packed there are no parts
    if here_bytes == size_bytes:
        meter(initial=here_bytes)
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(here_bytes)
        http_get(url, file, resume_size=here_bytes, headers=headers, expected_size=size_bytes, tqdm_class=meter)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _blobs(model: str) -> Path:
    from huggingface_hub.file_download import repo_folder_name

    return cache_folder() / repo_folder_name(repo_id=model, repo_type="model") / "blobs"
