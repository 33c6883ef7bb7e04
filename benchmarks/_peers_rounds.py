"""The rounds of the peers benchmark: every competitor in turn: what else the machine does meets all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from _peers_competitors import Peer, Training, autofit_run, peers
from _peers_figures import Run, Times, fastest, steps_of
from _peers_run import Failed

HORIZONS_S = {"10 minutes": 600.0, "an hour": 3600.0}
SEEN_STEPS = 12  # of a longer training, of which no more is run


@dataclass
class Seen:
    """The runs of one training by all competitors. A peer that does not run has a sentence in `failures`."""

    training: Training
    peers: dict[str, list[Run]] = field(default_factory=dict)
    first: list[Run] = field(default_factory=list)  # autofit that remembers nothing
    second: list[Run] = field(default_factory=list)  # and with what the first time left
    longer: dict[str, tuple[int, Run]] = field(default_factory=dict)  # steps, and the first of them
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> list[Run]:
        return [*self.first, *self.second, *(run for _, run in self.longer.values())]


@dataclass(frozen=True)
class Bench:
    folder: Path
    tell: Callable[[str], None]

    def warm_up(self, training: Training) -> None:
        """A job that does not count: the page cache, the tokenised rows, DeepSpeed's compiled kernels."""
        self.tell("warming up")
        try:
            peers(training)[-1].run(self._new("warm-up"), 4)
        except Failed as failure:
            self.tell(f"the job that was to warm up has failed:\n{failure}")

    def rounds(self, training: Training, step_count: int, count: int) -> Seen:
        seen, competitors = Seen(training), list(peers(training))
        for number in range(1, count + 1):
            for peer in competitors:
                self._run_peer(seen, peer, step_count, f"{training.method.value}{number}")
            self._run_autofit(seen, step_count, number)
        return seen

    def look_at_longer(self, seen: Seen) -> None:
        """What autofit does for trainings of 10 minutes and of an hour: the command as it is, whose search looks for
        as long as that training earns, ended after its first steps."""
        step_s = Times.of(seen.peers[fastest(seen.peers)]).step_s
        for number, (name, length_s) in enumerate(HORIZONS_S.items()):
            steps = steps_of(length_s, step_s)
            folder = self._new(f"{seen.training.method.value}-longer{number}")
            run = autofit_run(seen.training, folder, self._cache(folder), steps, SEEN_STEPS)
            seen.longer[name] = (steps, run)
            self._tell(f"autofit, of {name}", run)

    def _run_peer(self, seen: Seen, peer: Peer, step_count: int, label: str) -> None:
        if peer.name in seen.failures:
            return
        try:
            run = peer.run(self._new(f"{label}-{peer.name.split()[-1]}"), step_count)
        except Failed as failure:
            seen.failures[peer.name] = str(failure)
            seen.peers.pop(peer.name, None)  # who does not run in every round has no times
            self.tell(f"{peer.name} does not run:\n{failure}")
            return
        seen.peers.setdefault(peer.name, []).append(run)
        self._tell(peer.name, run)

    def _run_autofit(self, seen: Seen, step_count: int, number: int) -> None:
        """The second time once, in the first round."""
        folder = self._new(f"{seen.training.method.value}{number}-autofit")
        seen.first.append(autofit_run(seen.training, folder, self._cache(folder), step_count))
        self._tell("autofit", seen.first[-1])
        if number == 1:
            again = self._new(f"{folder.name}-again")
            seen.second.append(autofit_run(seen.training, again, self._cache(folder), step_count))
            self._tell("autofit, the second time", seen.second[-1])

    def _new(self, name: str) -> Path:
        return self.folder / name

    def _cache(self, folder: Path) -> Path:
        """What autofit remembers of a run in `folder`."""
        return folder.with_suffix(".cache")

    def _tell(self, name: str, run: Run) -> None:
        total = f"{run.total_s:.1f} s " + ("in all" if run.is_whole else "until it was interrupted")
        self.tell(f"{name}: {run.setting}, {run.start_s:.1f} s to the first step, {run.step_s:.3f} s a step, {total}")
