"""What a screen knows of the run so far: events folded into one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autofit.domain import event as ev
from autofit.domain.efficiency import Rated
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.method import Method
from autofit.domain.ladder import Ladder
from autofit.domain.model import ModelShape
from autofit.domain.objective import Objective
from autofit.domain.outcome import Measured, Phase
from autofit.domain.request import Request
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trial import Choice, GiveUp, Trial
from autofit.domain.workload import DataProfile
from autofit.planning.data.batch_widths import has_same_width
from autofit.planning.plan.fit import fits
from autofit.planning.search.merit import measured_merit

from .download import Downloading


@dataclass(frozen=True)
class Probing:
    """A probe that runs now; `since_s` is the screen's clock."""

    strategy: Strategy
    phase: Phase
    since_s: float


@dataclass(frozen=True)
class View:
    told_hardware: Hardware | None = None  # of the phase before
    hardware: Hardware | None = None
    shape: ModelShape | None = None
    request: Request | None = None
    profile: DataProfile | None = None
    ladder: Ladder | None = None
    probing: tuple[Probing, ...] = ()
    trials: tuple[Trial, ...] = ()
    choice: Choice | None = None
    give_up: GiveUp | None = None
    download: Downloading | None = None  # None once everything is here
    survey: ev.SurveyProgress | None = None  # None once all rows are read
    training: ev.TrainingStarted | None = None
    training_since_s: float = 0.0
    loading: ev.ModelLoading | None = None
    progress: ev.TrainingProgress | None = None
    result: ev.TrainingEnded | None = None
    notes: tuple[str, ...] = ()

    @property
    def device_memory_bytes(self) -> int | None:
        if self.ladder is not None:
            return self.ladder.device_memory_bytes
        return self.hardware.device_memory_bytes if self.hardware is not None else None

    @property
    def device_word(self) -> str:
        return "rank" if self.hardware is not None and self.hardware.kind is DeviceKind.CPU else "GPU"

    @property
    def kind(self) -> DeviceKind:
        return DeviceKind.CUDA if self.hardware is None else self.hardware.kind

    @property
    def objective(self) -> Objective:
        return Objective.SPEED if self.request is None else self.request.objective

    @property
    def baseline(self) -> Rated | None:
        """What ratios are of, once something was chosen."""
        return None if self.choice is None else self.choice.baseline

    @property
    def tried(self) -> tuple[Rung, ...]:
        """Rungs that were or are probed, in the order of their first probe."""
        strategies = [trial.strategy for trial in self.trials] + [probing.strategy for probing in self.probing]
        return tuple(dict.fromkeys(strategy.rung for strategy in strategies))

    def has_fit(self, trial: Trial) -> bool:
        """Whether it was measured and leaves a whole training the room that it needs."""
        limit_bytes = self.device_memory_bytes
        return isinstance(trial.outcome, Measured) and (limit_bytes is None or fits(trial.outcome, limit_bytes))

    def best(self, method: Method | None = None) -> Trial | None:
        """The fastest trial that fits, of `method` if one is given."""
        fitting = (trial for trial in self._fitting if method in (None, trial.strategy.rung.method))
        return max(fitting, key=tokens_per_s, default=None)

    @property
    def leading(self) -> Trial | None:
        """The best trial that fits, by what is looked for."""
        return max(self._fitting, key=self.merit, default=None)

    def merit(self, trial: Trial) -> float:
        """How good a measured trial is for what is looked for."""
        assert isinstance(trial.outcome, Measured)
        return measured_merit(trial.outcome, self.objective, self.kind)

    @property
    def _fitting(self) -> list[Trial]:
        whole = (trial for trial in self.trials if not trial.is_rehearsal and not is_outpaced(trial))
        return [trial for trial in whole if self.has_fit(trial)]


def is_outpaced(trial: Trial) -> bool:
    return isinstance(trial.outcome, Measured) and trial.outcome.is_outpaced


def tokens_per_s(trial: Trial) -> float:
    assert isinstance(trial.outcome, Measured)
    return trial.outcome.tokens_per_s


def fold(view: View, event: ev.Event, now_s: float = 0.0) -> View:
    """The view after `event`, which was heard at `now_s`."""
    match event:
        case ev.PhaseStarted():
            return View(told_hardware=view.hardware)
        case ev.MachineSeen(hardware):
            return replace(view, hardware=hardware)
        case ev.ModelRead(shape):
            return replace(view, shape=shape)
        case ev.DataRead(request, profile):
            return _with_data(view, request, profile)
        case ev.SurveyProgress():
            return replace(view, survey=event)
        case ev.LadderBuilt(ladder):
            return replace(view, ladder=ladder)
        case ev.ProbeStarted(strategy):
            return replace(view, probing=(*view.probing, Probing(strategy, Phase.START, now_s)))
        case ev.ProbeHeartbeat(strategy, phase):
            return replace(view, probing=tuple(_in_phase(probing, strategy, phase) for probing in view.probing))
        case ev.TrialEnded(trial):
            rest = tuple(probing for probing in view.probing if probing.strategy != trial.strategy)
            return replace(view, trials=(*view.trials, trial), probing=rest)
        case ev.Chosen(choice):
            return replace(view, choice=choice, probing=())
        case ev.GaveUp(action):
            return replace(view, give_up=action, probing=())
        case ev.DownloadStarted(_, _, total_bytes):
            return replace(view, download=Downloading(total_bytes))
        case ev.DownloadProgress():
            return replace(view, download=view.download and view.download.after(event, now_s))
        case ev.DownloadEnded():
            return replace(view, download=None)
        case ev.TrainingStarted():
            return replace(view, training=event, training_since_s=now_s, loading=None, progress=None)
        case ev.ModelLoading():
            return replace(view, loading=event)
        case ev.TrainingProgress():
            return replace(view, progress=_kept(event, view.progress))
        case ev.TrainingEnded():
            return replace(view, result=event)
        case ev.Note(text):
            return replace(view, notes=(*view.notes, text))


def _with_data(view: View, request: Request, profile: DataProfile) -> View:
    """The view with what was read of the data; without the trials until then where their batches had another width."""
    holds = view.profile is None or has_same_width(view.profile, profile, view.kind)
    survey = view.survey if profile.is_foreseen else None
    return replace(view, request=request, profile=profile, survey=survey, trials=view.trials if holds else ())


def _in_phase(probing: Probing, strategy: Strategy, phase: Phase) -> Probing:
    return replace(probing, phase=phase) if probing.strategy == strategy else probing


def _kept(new: ev.TrainingProgress, old: ev.TrainingProgress | None) -> ev.TrainingProgress:
    """The later of two reports, which does not take off the screen what it leaves out."""
    if old is None:
        return new
    kept = {
        name: getattr(old, name)
        for name in ("loss", "tokens_per_s", "peak_device_bytes", "left_s", "saved_step", "eval_loss")
        if getattr(new, name) is None
    }
    return replace(new, metrics=new.metrics or old.metrics, **kept)
