"""Rows kept in files: every rank maps the same ones, and finds what another has made of them."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, config, is_caching_enabled


def cache_file(rows: Dataset, fingerprint: str) -> str | None:
    """Where that is kept which is made of rows that lie in memory; None where `datasets` has a place for it itself."""
    if rows.cache_files or not is_caching_enabled():
        return None
    folder = Path(config.HF_DATASETS_CACHE, "autofit")
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"{fingerprint}.arrow")


def kept_in_file(rows: Dataset) -> Dataset:
    """The rows, in a file if they lie in memory: trl keeps the reference's log-probabilities beside it, for all
    ranks."""
    path = cache_file(rows, rows._fingerprint)
    if path is None:
        return rows
    return rows.map(_same, cache_file_name=path, new_fingerprint=rows._fingerprint, features=rows.features)


def _same(row: dict[str, object]) -> dict[str, object]:
    return row
