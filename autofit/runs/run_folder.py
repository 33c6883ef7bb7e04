"""The run folder: one owner of its file names, and what it holds of a run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.event import Tell, TrainingEnded
from autofit.domain.hardware import Hardware
from autofit.domain.line_decision import Kept
from autofit.domain.request import Request
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice, Trial
from autofit.domain.workload import DataProfile
from autofit.inputs.weights import ADAPTER_FILE, INDEX_FILE, SINGLE_FILE
from autofit.process.files import OURS_TO_RUN
from autofit.process.saved_steps import PARTIAL, SavedSteps, last_whole, saved_after, saved_step, saved_steps
from autofit.process.universal_checkpoint import UNIVERSAL

from .earlier_choice import as_today
from .folder_lock import hold
from .journal import Journal
from .json_file import is_value_of, read_body, read_value, write_body, write_text, write_value
from .shared_folder import OUTPUT_FLAG, check_free, check_location, exposure_text, move, sharing_text

_LOGS = (
    "agent.log", "survey.log", "download.log", "merge.log", "training.log", "probe-*.log", "progress.jsonl",
    "rank[0-9]*.json", "beat",  # of older runs
)  # fmt: skip
_CHECKPOINTS = ("checkpoint-*", "diverged-*", f"{UNIVERSAL}*", PARTIAL, "README.md")  # trl describes the model there

_SCRATCH = ".autofit-scratch-"


def _silent(text: str) -> None: ...


class RunFolder:
    """A run folder, whose reads answer None (or nothing) for what is not there; UsageError for a damaged file or one of
    another schema. `flag` is what the user names another one with."""

    def __init__(self, root: Path, flag: str = OUTPUT_FLAG) -> None:
        self.root = root
        self._flag = flag
        self.request = root / "request.json"
        self.choice = root / "choice.json"
        self.ds_config = root / "ds_config.json"
        self.command = root / "command.sh"
        self.report = root / "report.html"
        self.logs = root / "logs"
        self.checkpoints = root / "checkpoints"
        self.model = root / "model"  # the final weights, or the adapter
        self.merged = root / "merged"
        self.progress = self.logs / "progress.jsonl"
        self.training_log = self.logs / "training.log"
        self.merge_log = self.logs / "merge.log"
        self._hardware = root / "hardware.json"
        self._data = root / "data_digest.json"
        self._profile = root / "data.json"
        self._result = root / "result.json"
        self._kept = root / "launch.json"
        self._journal = Journal(root / "trials.jsonl", flag)
        self._lock = root / ".autofit.lock"  # that it is there says that the folder is ours
        self._earlier = root / "earlier"

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.request.is_file()

    @property
    def has_training(self) -> bool:
        """Whether it holds training that would be missed: a checkpoint, a model or a result."""
        return self.last_checkpoint is not None or self.model.exists() or self._result.is_file()

    @property
    def last_checkpoint(self) -> str | None:
        """The folder of the last whole checkpoint, from which a rank would go on."""
        last = last_whole(self.checkpoints)
        return None if last is None else str(last)

    @property
    def is_ours(self) -> bool:
        """Whether autofit has begun to use it: what then stands under the names of its files is its own."""
        return self._lock.is_file() or is_value_of(self.request, Request)

    def check(self) -> None:
        """Checks the folder and writes nothing; UsageError where it is not to be used."""
        check_location(self.root, self._flag)
        if not self.is_ours:
            check_free(self.root, self._own(), self._flag)

    def archive(self, tell: Tell) -> None:
        """Moves autofit's own files into a new folder under `earlier/`, so that another run begins; `tell` hears it."""
        place = self._new_archive()
        move(self._own(), self.root, place)
        tell(f"the earlier run in {self.root} was moved to {place}: this one asks for something else")

    def archive_search(self, tell: Tell) -> None:
        """Moves all that a search has found into a new folder under `earlier/`: another begins, and the training goes
        on from its checkpoints. `tell` hears it."""
        place, asked = self._new_archive(), (self.request, self._hardware, self._data)
        move([path for path in self._own_but_checkpoints() if path not in asked], self.root, place)
        tell(f"the earlier search in {self.root} was moved to {place}: it was for another machine")

    def set_checkpoints_aside(self, named: str, tell: Tell) -> None:
        """Renames the checkpoints that a run that starts from the checkpoint `named` would take for its own: all that
        come after it."""
        begins = Path(named)
        is_own = begins.parent == self.checkpoints.resolve()
        later = saved_after(self.checkpoints, saved_step(begins) if is_own else None)
        if later:
            place = self._new_archive()
            move(later, self.root, place)
            tell(f"{len(later)} checkpoints of the training before were moved to {place}: this one starts from {named}")

    def set_trials_aside(self, tell: Tell) -> None:
        """Moves the trials away that were of other batches; nothing where there are none."""
        if self._journal.path.exists():
            place = self._new_archive()
            move([self._journal.path], self.root, place)
            tell(f"the trials until now were moved to {place}: their batches had another width")

    def create(self) -> None:
        """Makes the folder and its subfolders, which nobody else may write: their files are read and run again.
        UsageError when that is not possible."""
        try:
            for folder in (self.root, self.logs, self.checkpoints):
                folder.mkdir(mode=OURS_TO_RUN, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self._flag} {self.root} cannot be made: {error.strerror}.") from error

    @contextmanager
    def lock(self, tell: Tell = _silent) -> Iterator[None]:
        """Keeps other autofits out of the folder, which is created; UsageError where it is not to be used.

        `tell` hears when other things lie in it, and when everybody may write there.
        """
        self.check()
        ours = (*self._own_files, self.logs, self.checkpoints, self._lock, self._earlier)
        if not self.is_ours and (text := sharing_text(self.root, ours)) is not None:
            tell(text)
        if (text := exposure_text(self.root)) is not None:
            tell(text)
        self.create()
        with hold(self._lock, self._flag):
            yield

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for what probes write, while the lock is held; what a killed command has left of its own goes
        first."""
        for left in self.root.glob(f"{_SCRATCH}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=self.root) as folder:
            yield Path(folder)

    def _new_archive(self) -> Path:
        """A new folder's place under `earlier/`."""
        numbers = [int(path.name) for path in self._earlier.glob("*") if path.name.isdigit()]
        return self._earlier / str(max(numbers, default=0) + 1)

    @property
    def _own_files(self) -> tuple[Path, ...]:
        """The files of autofit's own that lie at the top."""
        return (
            self.request, self._hardware, self._data, self._profile, self._journal.path, self.choice, self.ds_config,
            self.command, self.report, self._result, self._kept, self.model, self.merged,
        )  # fmt: skip

    def _own(self) -> list[Path]:
        """What is here under the names of what autofit writes; in its subfolders others may have put something, too."""
        return self._own_but_checkpoints() + [
            path for pattern in _CHECKPOINTS for path in self.checkpoints.glob(pattern)
        ]

    def _own_but_checkpoints(self) -> list[Path]:
        found = [path for path in self._own_files if os.path.lexists(path)]
        return found + [path for pattern in _LOGS for path in self.logs.glob(pattern)]

    def probe_log(self, strategy: Strategy, n: int) -> Path:
        """The log of the n-th probe of the run."""
        return self.logs / f"probe-{n:02d}-{strategy.rung}-mb{strategy.micro_batch}.log"

    def write_request(self, request: Request) -> None:
        write_value(self.request, request)

    def read_request(self) -> Request | None:
        return read_value(self.request, Request, self._flag)

    def write_data_digest(self, digest: str | None) -> None:
        """Writes the digest of the data that is trained on; None where it is not known."""
        write_body(self._data, {"digest": digest})

    def read_data_digest(self) -> str | None:
        body = read_body(self._data, self._flag)
        return None if body is None else body.get("digest")

    def write_hardware(self, hardware: Hardware) -> None:
        write_value(self._hardware, hardware)

    def read_hardware(self) -> Hardware | None:
        return read_value(self._hardware, Hardware, self._flag)

    def write_profile(self, profile: DataProfile) -> None:
        write_value(self._profile, profile)

    def read_profile(self) -> DataProfile | None:
        return read_value(self._profile, DataProfile, self._flag)

    def append_trial(self, trial: Trial) -> None:
        self._journal.append(trial)

    def read_trials(self) -> tuple[Trial, ...]:
        return self._journal.read()

    def write_choice(self, choice: Choice) -> None:
        write_value(self.choice, choice)

    def read_choice(self) -> Choice | None:
        return read_value(self.choice, Choice, self._flag, as_today)

    def write_ds_config(self, config: dict[str, Any] | None) -> None:
        """Writes the configuration of DeepSpeed, which passes over the top-level "schema"; where there is none, an
        earlier choice's goes."""
        if config is None:
            self.ds_config.unlink(missing_ok=True)
        else:
            write_body(self.ds_config, config)

    def write_command(self, text: str) -> None:
        """Writes `command.sh`, executable."""
        write_text(self.command, text, mode=OURS_TO_RUN)

    def write_report(self, html: str) -> None:
        write_text(self.report, html)

    def write_decision(self, kept: Kept) -> None:
        """Writes how a line of `deepspeed` is started. Its config is the one here, wherever the folder comes to lie."""
        write_value(self._kept, _with_config(kept, self.ds_config.name))

    def read_decision(self) -> Kept | None:
        kept = read_value(self._kept, Kept, self._flag)
        return None if kept is None else _with_config(kept, str(self.ds_config))

    def write_result(self, result: TrainingEnded) -> None:
        """Writes the result with the paths as they are from here: the folder may come to lie elsewhere."""
        write_value(self._result, _placed(result, Path()))

    def read_result(self) -> TrainingEnded | None:
        result = read_value(self._result, TrainingEnded, self._flag)
        return None if result is None else _placed(result, self.root)

    @property
    def lost(self) -> tuple[str, ...]:
        """The folders that the result tells of and that hold no weights any more."""
        result = self.read_result()
        claimed = () if result is None else (result.model_path, result.merged_path)
        return tuple(path for path in claimed if path is not None and not has_weights(Path(path)))

    def read_record(self) -> RunRecord:
        """Everything that is known of the run; UsageError when no run was begun here."""
        request = self.read_request()
        if request is None:
            raise UsageError(f"{self.root} is no run folder: it has no {self.request.name}.")
        return RunRecord(
            request,
            self.read_hardware(),
            self.read_trials(),
            self.read_choice(),
            self.read_result(),
            self.read_profile(),
            self.lost,
            self.read_decision(),
            saved_steps(self.checkpoints),
        )


def has_weights(folder: Path) -> bool:
    """Whether a whole model or adapter lies there, by the file that is written last: a shard alone is none."""
    entries = (SINGLE_FILE, INDEX_FILE, ADAPTER_FILE)
    return any((folder / name).exists() for name in entries) or any(folder.glob("*.bin"))


def _placed(result: TrainingEnded, root: Path) -> TrainingEnded:
    """The result with its folders in `root`: they have the same names in every run folder."""
    merged = None if result.merged_path is None else str(root / Path(result.merged_path).name)
    return replace(result, model_path=str(root / Path(result.model_path).name), merged_path=merged)


def _with_config(kept: Kept, path: str) -> Kept:
    """The line's decision with its config at `path`, where it has one of its own."""
    decision = kept.decision
    return kept if decision.config_path is None else replace(kept, decision=replace(decision, config_path=path))


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds of a run; None for what has not happened yet."""

    request: Request
    hardware: Hardware | None
    trials: tuple[Trial, ...]
    choice: Choice | None
    result: TrainingEnded | None
    profile: DataProfile | None = None
    lost: tuple[str, ...] = ()  # folders that the result tells of, and where nothing lies any more
    kept: Kept | None = None  # of a line of `deepspeed`
    saved: SavedSteps = field(default_factory=SavedSteps)
