"""The training of `bin/quickstart` by any checkout of autofit, timed from outside, so that each is timed alike."""

from __future__ import annotations

import compileall
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

HERE = Path(__file__).resolve().parents[1]
_POLL_S = 0.02
_DEADLINE_S = 900.0


class Course(NamedTuple):
    """When things happened in one training, in seconds."""

    to_first_step_s: float  # from the command to the end of the first optimizer step
    to_model_s: float  # from the last step to the end of the command
    total_s: float
    cpu_s: float  # user and system, of the command and of what it waited for


class Marks:
    """The moments at which the first and the last step are told in a run's progress file; None before."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path, self._now = path, now
        self.first_at_s: float | None = None
        self.last_at_s: float | None = None

    def look(self) -> None:
        """Looks once; to be called more often than a step takes."""
        for entry in self._entries():
            if entry["step"] >= 1 and self.first_at_s is None:
                self.first_at_s = self._now()
            if entry["step"] == entry["step_count"] and self.last_at_s is None:
                self.last_at_s = self._now()

    def _entries(self) -> Iterator[dict[str, int]]:
        whole, _, _ = (self._path.read_text() if self._path.exists() else "").rpartition("\n")
        entries = (json.loads(line) for line in whole.splitlines())
        return (entry for entry in entries if entry["type"] == "TrainingProgress")


def compare(trees: dict[str, Path], rounds: int) -> dict[str, object]:
    """The median course of every tree with a cold and a warm store, and each figure of the first tree over that of the
    others; the trees take turns."""
    make_model()
    for tree in trees.values():
        compileall.compile_dir(tree / "autofit", quiet=1)
    courses: dict[str, dict[str, list[Course]]] = {name: {"cold": [], "warm": []} for name in trees}
    for number in range(rounds):
        for name in list(trees)[:: -1 if number % 2 else 1]:
            with tempfile.TemporaryDirectory(prefix="quickstart-") as folder:
                Path(folder, "examples").symlink_to(HERE / "examples")  # where the flags look for them
                for store, found in courses[name].items():  # what the first remembers the second finds
                    found.append(_run(trees[name], Path(folder), store))
                    print(f"round {number + 1}, {name}, {store}: {found[-1]}", file=sys.stderr, flush=True)
    medians = {name: {store: _median(all_of_it) for store, all_of_it in own.items()} for name, own in courses.items()}
    return {"rounds": rounds, "median": _as_dicts(medians), "ratios": _ratios(medians)}


def flags_of(quickstart: str) -> list[str]:
    """The flags of the training in the text of `bin/quickstart`, as where there is no GPU; not its output folder."""
    limit, training = re.search(r"limit=\((.*?)\)", quickstart), re.search(r"exec autofit train (.*)", quickstart, re.S)
    assert limit is not None
    assert training is not None
    words = shlex.split(training[1].replace("\\\n", " ").replace('"${limit[@]}"', limit[1]))
    return words[: words.index("--output-dir")]


def make_model() -> None:
    """Makes the model of the quickstart, which is not kept in the repository."""
    subprocess.run([sys.executable, HERE / "examples/make_tiny_model.py"], check=True, stdout=subprocess.DEVNULL)


def _run(tree: Path, folder: Path, store: str) -> Course:
    """One training by the tree's autofit, with this checkout's model and data; from `folder`, for Python would find the
    autofit of a checkout that it starts in."""
    out, log_path = folder / store, folder / f"{store}.log"
    flags = flags_of((HERE / "bin/quickstart").read_text())
    command = [sys.executable, "-m", "autofit", "train", *flags, "--output-dir", str(out)]
    with log_path.open("wb") as log:
        marks, began_at_s = Marks(out / "logs/progress.jsonl", time.monotonic), time.monotonic()
        environment = _environment(tree, folder / "cache")
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        cpu_s = _watched(process, marks, began_at_s + _DEADLINE_S)
    ended_at_s = time.monotonic()
    if process.returncode != 0 or marks.first_at_s is None or marks.last_at_s is None:
        raise SystemExit(f"autofit of {tree} has not trained:\n{log_path.read_text()[-2000:]}")
    return Course(marks.first_at_s - began_at_s, ended_at_s - marks.last_at_s, ended_at_s - began_at_s, cpu_s)


def _watched(process: subprocess.Popen[bytes], marks: Marks, until_s: float) -> float:
    """Follows a training to its end, or kills it; its CPU seconds."""
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        marks.look()
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, behind its back
            return used.ru_utime + used.ru_stime
        if time.monotonic() > until_s:
            process.kill()
        time.sleep(_POLL_S)


def _environment(tree: Path, cache: Path) -> dict[str, str]:
    """A store and the caches of libraries of its own; DeepSpeed's compiled kernels are those that are there."""
    cache.mkdir(exist_ok=True)
    kernels = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "torch_extensions")
    kernels.mkdir(parents=True, exist_ok=True)
    if not (cache / kernels.name).exists():
        (cache / kernels.name).symlink_to(kernels)
    left_out = ("AUTOFIT_CACHE", "PYTHONDONTWRITEBYTECODE", "HF_HOME", "HF_DATASETS_CACHE")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(cache)}


def _median(courses: Sequence[Course]) -> Course:
    return Course(*(median(figures) for figures in zip(*courses, strict=True)))


def _as_dicts(medians: dict[str, dict[str, Course]]) -> dict[str, object]:
    return {
        name: {store: {part: round(s, 2) for part, s in course._asdict().items()} for store, course in own.items()}
        for name, own in medians.items()
    }


def _ratios(medians: dict[str, dict[str, Course]]) -> dict[str, object]:
    (own_name, own), *others = medians.items()
    return {
        f"{own_name} / {name}": {
            store: {part: round(getattr(own[store], part) / getattr(course, part), 3) for part in Course._fields}
            for store, course in other.items()
        }
        for name, other in others
    }
