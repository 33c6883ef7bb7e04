"""Where data comes from: local files of one kind, or a data set on the hub."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from autofit.domain.errors import UsageError
from autofit.domain.task import Task
from autofit.domain.workload import DATA_KINDS
from autofit.inputs.data_files import hub_dataset

_HELD_OUT = re.compile(r"(?<![a-z])(test|eval|evaluation|valid|validation|dev)(?![a-z])")


@dataclass(frozen=True)
class Files:
    """Local files in the order in which their rows are numbered; `kind` is a builder of `datasets`."""

    kind: str
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubDataset:
    name: str
    config: str | None = None


Source = Union[Files, HubDataset]


def resolve(source: str | None, task: Task = Task.SFT) -> Source:
    """The files or the hub's data set that `source` names, None being the task's sample that ships; UsageError if
    neither."""
    if source is None:
        return Files("json", (Path(__file__).with_name(task.traits.sample),))
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return Files(_kind(path), (path,))
    if glob.has_magic(source):
        return _of_one_kind(source, [Path(name) for name in sorted(glob.glob(str(path), recursive=True))])
    return HubDataset(*hub_dataset(source))


def _folder(folder: Path) -> Files:
    """A folder's data files; a file that its name says is held out for evaluation is not trained on."""
    files = sorted(path for path in folder.iterdir() if path.suffix in DATA_KINDS and path.is_file())
    held_out = [path for path in files if _HELD_OUT.search(path.stem.lower())]
    chosen = [path for path in files if path not in held_out]
    note = f"{', '.join(path.name for path in held_out)} not trained on: held out, by the name"
    return _of_one_kind(str(folder), chosen or files, (note,) if chosen and held_out else ())


def _of_one_kind(source: str, paths: list[Path], notes: tuple[str, ...] = ()) -> Files:
    if not paths:
        raise UsageError(f"{source}: no data files there ({', '.join(DATA_KINDS)}).")
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        raise UsageError(f"{source}: holds {' and '.join(sorted(kinds))} files; name one kind, as *.jsonl does.")
    return Files(kinds.pop(), tuple(paths), notes)


def _kind(path: Path) -> str:
    if path.suffix not in DATA_KINDS:
        raise UsageError(f"{path}: not a data file that can be read ({', '.join(DATA_KINDS)}).")
    return DATA_KINDS[path.suffix]
