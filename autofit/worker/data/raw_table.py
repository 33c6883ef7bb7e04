"""Raw tables read by `datasets`: local files and the hub's data sets, before anything is known of their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError, DatasetsError
from datasets.packaged_modules.json.json import JsonConfig

from autofit.domain.errors import UsageError
from autofit.inputs.local_path import nearest_text

from .located_rows import check_first_row, fault, read_header
from .source import Files, HubDataset


class Unreadable(Exception):
    """The files could not be read: `datasets` does not say which line is to blame."""


def read_files(files: Files) -> datasets.Dataset:
    """Reads all rows of `files`; Unreadable if a line may be broken, UsageError where the whole file or the disk is."""
    paths = [str(path) for path in (with_rows(files) if files.kind == "parquet" else files.paths)]
    try:
        return datasets.load_dataset(files.kind, data_files=paths, split="train", **_options(files))
    except Exception as error:  # each format and each packing has errors of its own
        cause = error.__cause__ or error
        if files.is_packed:
            raise Unreadable(_first_line(cause)) from error
        if not isinstance(error, (DatasetGenerationError, ValueError, StopIteration)):
            raise
        if isinstance(cause, OSError):  # a full disk is not the file's fault
            raise UsageError(f"could not prepare the data: {cause}") from error
        if files.kind == "parquet":
            raise fault(", ".join(paths), f"not readable as Parquet ({_first_line(cause)})") from error
        raise Unreadable(_first_line(cause)) from error


def read_hub(hub: HubDataset) -> datasets.Dataset:
    """Reads the split `train`; UsageError says why the hub does not give it."""
    with _refusals_of_hub(hub):
        return datasets.load_dataset(hub.name, hub.config, split="train")


def first_of_hub(hub: HubDataset, count: int) -> list[Mapping[str, object]]:
    """The first rows of the split `train`, of which no more is fetched; UsageError as `read_hub`."""
    with _refusals_of_hub(hub):
        return list(datasets.load_dataset(hub.name, hub.config, split="train", streaming=True).take(count))


@contextmanager
def _refusals_of_hub(hub: HubDataset) -> Iterator[None]:
    name = f"{hub.name}:{hub.config}" if hub.config else hub.name
    try:
        yield
    except DatasetNotFoundError as error:
        if "gated" in str(error):
            raise UsageError(f"{name}: gated; accept its terms on the hub, then `hf auth login`.") from error
        here = f"no such file or folder here, and no such data set on the hub.{nearest_text(hub.name)}"
        raise UsageError(f"{name}: {here}") from error
    except (DatasetsError, ValueError, RuntimeError) as error:
        lines = str(error.__cause__ or error).splitlines()[:2]  # the second may name the configs to choose from
        raise UsageError(f"{name}: {' '.join(lines)}") from error
    except OSError as error:
        here = f"no such file or folder here, and the hub cannot be reached.{nearest_text(hub.name)}"
        raise UsageError(f"{name}: {here}") from error


def with_rows(files: Files) -> list[Path]:
    """The Parquet files that have rows: `datasets` stumbles over others. UsageError where none has, or for one that is
    damaged."""
    found = []
    for path in files.paths:
        with reading_parquet(path):
            found += [path] if pyarrow.parquet.read_metadata(path).num_rows else []
    if not found:
        raise fault(", ".join(map(str, files.paths)), "empty")
    return found


@contextmanager
def reading_parquet(path: Path) -> Iterator[None]:
    """Says what Arrow raises over a Parquet file as a UsageError."""
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise fault(str(path), f"not readable as Parquet ({_first_line(error)})") from error


def _options(files: Files) -> dict[str, object]:
    if files.kind == "csv":
        return _csv_options(files)
    if files.kind == "json" and "parse_agent_traces" in {field.name for field in fields(JsonConfig)}:
        return {"parse_agent_traces": False}  # it would replace the columns of files that look like agents' logs
    return {}


def _csv_options(files: Files) -> dict[str, object]:
    """The options under which text stays text: an answer "12" is no number, and "NA" and "null" are words; only an
    empty field is null."""
    for path in files.paths:
        check_first_row(path)
    separator, columns = read_header(files.paths[0])
    features = datasets.Features({column: datasets.Value("string") for column in columns})
    return {"sep": separator, "features": features, "keep_default_na": False, "na_values": [""]}


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
