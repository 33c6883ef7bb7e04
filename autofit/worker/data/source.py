"""Where data comes from: local files of one kind, or a data set on the hub."""

from __future__ import annotations

import glob
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from autofit.domain.errors import UsageError
from autofit.domain.task import Task
from autofit.domain.workload import COMPRESSIONS, DATA_KINDS, data_kind
from autofit.inputs.data_files import data_files, hub_dataset
from autofit.inputs.local_path import Lies, what_lies_at

_HELD_OUT = re.compile(r"(?<![a-z])(test|eval|evaluation|valid|validation|dev)(?![a-z])")


@dataclass(frozen=True)
class Files:
    """Local files in the order in which their rows are numbered; `kind` is a builder of `datasets`."""

    kind: str
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_packed(self) -> bool:
        return any(path.name.lower().endswith(COMPRESSIONS) for path in self.paths)


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
    path, lies = Path(source).expanduser(), what_lies_at(source)
    if lies is Lies.FOLDER:
        return _folder(path)
    if lies is Lies.FILE:
        return _of_one_kind(source, [path])
    if glob.has_magic(source):
        return _of_one_kind(source, [Path(name) for name in sorted(glob.glob(str(path), recursive=True))])
    return HubDataset(*hub_dataset(source))


def _folder(folder: Path) -> Files:
    """The data files of a folder and of those in it; one whose name, or whose folder's, says that it is held out for
    evaluation is not trained on."""
    files = data_files(folder)
    held_out = [path for path in files if _HELD_OUT.search(str(path.relative_to(folder)).lower())]
    chosen = [path for path in files if path not in held_out]
    note = f"{', '.join(str(path.relative_to(folder)) for path in held_out)} not trained on: held out, by the name"
    return _of_one_kind(str(folder), chosen or files, (note,) if chosen and held_out else ())


def _of_one_kind(source: str, paths: list[Path], notes: tuple[str, ...] = ()) -> Files:
    if not paths:
        raise UsageError(f"{source}: no data files there ({', '.join(DATA_KINDS)}).")
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        raise UsageError(f"{source}: holds {' and '.join(sorted(kinds))} files; name one kind, as *.jsonl does.")
    packed = next((path for path in paths if path.name.lower().endswith(".zst")), None)
    if packed is not None and importlib.util.find_spec("zstandard") is None:
        raise UsageError(f"{packed}: the package zstandard unpacks it: pip install zstandard.")
    return Files(kinds.pop(), tuple(paths), notes)


def _kind(path: Path) -> str:
    kind = data_kind(path.name)
    if kind is None:
        raise UsageError(
            f"{path}: not a data file that can be read ({', '.join(DATA_KINDS)}; all but the last as .gz or .zst, too)."
        )
    return kind
