"""The files of a tokenizer, read one by one to tell which of them is broken: transformers does not say."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from autofit.domain.errors import UsageError, error_text
from autofit.inputs.json_text import read_object
from autofit.inputs.snapshot import find_snapshot

_WHOLE = "tokenizer.json"
_OBJECTS = (_WHOLE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
_THEN = "download it again"


def check_files(model: str) -> None:
    """Checks the files of the tokenizer of a folder or a hub id; UsageError names the first that is broken."""
    folder = _folder(model)
    if folder is None:
        return
    for name in _OBJECTS:
        if (folder / name).exists():
            read_object(folder / name, str(folder / name), _THEN)
    if (folder / _WHOLE).exists():
        _check_whole(folder / _WHOLE)


def _folder(model: str) -> Path | None:
    """Where the files lie; None where nothing is here yet."""
    if Path(model).is_dir():
        return Path(model)
    snapshot = find_snapshot(model)
    return None if snapshot is None else snapshot.folder


def _check_whole(path: Path) -> None:
    try:
        Tokenizer.from_file(str(path))
    except Exception as error:  # its library raises nothing more exact
        said = error_text(error, 200)
        raise UsageError(f"{path} is no tokenizer that the library tokenizers reads ({said}): {_THEN}.") from error
