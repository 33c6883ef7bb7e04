"""The story from end to end, told by a simulated machine and a training that only writes its files; no torch in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from autofit.app import train
from autofit.domain.errors import InternalError, NothingFits, TrainingFailed, UsageError
from autofit.domain.event import (
    Chosen,
    DataRead,
    Event,
    GaveUp,
    LadderBuilt,
    MachineSeen,
    ModelRead,
    Note,
    ProbeHeartbeat,
    ProbeStarted,
    TrainingEnded,
    TrainingProgress,
    TrainingStarted,
    TrialEnded,
)
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.objective import Objective
from autofit.domain.outcome import (
    Crashed,
    DiskFull,
    Killed,
    Measured,
    Outcome,
    OutOfMemory,
    Phase,
    Place,
    SignalCrash,
    TimedOut,
    Unsupported,
    UserFault,
)
from autofit.domain.request import Lora, Request, SearchOptions, Training
from autofit.domain.run_end import MergeFailed, RunEnd, RunFailure
from autofit.domain.strategy import Strategy
from autofit.domain.workload import RowCounts
from autofit.planning.search.patience import LEAST_S
from autofit.probing.protocol import ProbeSpec
from autofit.running.supervision import Supervision
from autofit.running.training_command import TrainingFiles
from autofit.runs.run_folder import RunFolder
from autofit.store import Store
from tests.builders import GB, make_hardware, make_request
from tests.fake_agent import SimulatedMachine, peak_bytes, tokens_per_s
from tests.fake_checkpoint import write_checkpoint
from tests.fake_packages import write_packages

MODEL = Path(__file__).parents[2] / "examples/tiny-llama"
REQUEST = make_request(MODEL, global_batch=8)
OPTIONS = SearchOptions(tolerance=0.01)  # several probes, however short the training is
# Some of the rungs fit, LoRA is the fastest of them, and a full-parameter one is named beside it.
TIGHT_BYTES = 480_000_000
REHEARSALS = 2  # one a device, before the first probe


def devices(rank_count: int = 2, kind: DeviceKind = DeviceKind.CPU) -> Hardware:
    return make_hardware(rank_count, kind, compute_capability=(8, 0))


@dataclass
class FakeTraining:
    """Leaves what a training leaves; `interrupted_by` or `failure` ends it after its first checkpoint."""

    interrupted_by: BaseException | None = None
    failure: RunFailure | None = None
    has_weights: bool = True
    first_loss: float | None = 2.5
    started_with: list[TrainingFiles] = field(default_factory=list)

    def run(
        self,
        hardware: Hardware,
        files: TrainingFiles,
        log_path: Path,
        show: Callable[[TrainingProgress], None],
        *,
        standby: Any,
        supervision: Supervision,
    ) -> RunEnd:
        self.started_with.append(files)
        checkpoint = files.checkpoints / "checkpoint-4"
        checkpoint.mkdir(exist_ok=True)
        (checkpoint / "trainer_state.json").write_text("{}")
        show(TrainingProgress(4, 8, 2.0, 100.0, GB, 1.0, saved_step=4))
        if self.interrupted_by is not None:
            raise self.interrupted_by
        if self.failure is not None:
            return self.failure
        files.model.mkdir(exist_ok=True)
        if self.has_weights:
            (files.model / "model.safetensors").touch()
        return TrainingEnded(str(files.model), None, 8, self.first_loss, 1.5, 100.0, GB, GB, 1.0)


class FakeStandby:
    """Stands by for no training."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __call__(self, kind: DeviceKind, log_path: Path) -> AbstractContextManager[Any]:
        return self

    def __enter__(self) -> FakeStandby:
        self.heard.append("open")
        return self

    def __exit__(self, *_: object) -> None:
        self.heard.append("closed")

    def start(self) -> None:
        self.heard.append("started")

    def settle(self) -> None:
        self.heard.append("settled")


class Stage:
    """One run folder with what a command on it would find; `train` is the command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.machine = SimulatedMachine(capacity_bytes=TIGHT_BYTES)
        self.training = FakeTraining()
        self.standby = FakeStandby()
        self.hardware = devices()
        self.merged: list[dict[str, Any]] = []
        self.asked_ranks: list[int | None] = []
        self.folder = RunFolder(root / "run")
        self.events: list[Event] = []
        self.tools: dict[str, Any] = {}  # beside those that every test replaces

    def show(self, event: Event) -> None:
        self.events.append(event)

    def train(self, request: Request = REQUEST, options: SearchOptions = OPTIONS) -> None:
        self.events.clear()
        tools = train.Tools(
            detect=self.detect,
            start_agent=self.machine.start_agent,
            run_training=self.training.run,
            stand_by=self.standby,
            merge=self.merge,
            open_store=lambda: Store(self.root / "cache" / "autofit.sqlite"),
            start_tracer=self.machine.start_tracer,
            **self.tools,
        )
        train.train(request, output_dir=self.folder.root, screen=self, options=options, tools=tools)

    @property
    def checkpoint(self) -> Path:
        """That which a training leaves."""
        return self.folder.checkpoints / "checkpoint-4"

    def detect(self, disk_path: Path, **asked: Any) -> Hardware:
        self.asked_ranks.append(asked["ranks"])
        return replace(self.hardware, memory_limit_bytes=asked["memory_limit_bytes"])

    def merge(self, hardware: Hardware, request: Request, **asked: Any) -> None:
        self.merged.append({"base": request.model, **asked})
        asked["out"].mkdir(exist_ok=True)
        (asked["out"] / "model.safetensors").touch()

    def told(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def files(self) -> dict[str, bytes]:
        """What lies in the folder, but for the lock."""
        return {
            str(path.relative_to(self.folder.root)): path.read_bytes()
            for path in self.folder.root.rglob("*")
            if path.is_file() and path.name != ".autofit.lock"
        }

    def interrupt_at_probe(self, number: int) -> None:
        def interrupt(asked: object) -> None:
            if isinstance(asked, ProbeSpec) and len(self.machine.specs) == number:
                raise KeyboardInterrupt

        self.machine.on_ask = interrupt

    def go_on(self) -> None:
        """Takes what interrupts out of the way."""
        self.machine.on_ask = lambda asked: None
        self.training.interrupted_by = None
        self.training.failure = None


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def undisturbed(tmp_path: Path) -> Stage:
    """The same run in another folder, to its end."""
    stage = Stage(tmp_path / "undisturbed")
    stage.train()
    return stage


def strategies(stage: Stage) -> list[Strategy]:
    return [trial.strategy for trial in stage.folder.read_trials()]


def untouchable(*_: Any, **__: Any) -> NoReturn:
    pytest.fail("this must not be used here")


def test_the_whole_story(stage: Stage) -> None:
    stage.train()
    kinds = [type(event) for event in stage.events]
    # what headers say, and what its class counts
    assert kinds[:6] == [MachineSeen, ModelRead, ModelRead, DataRead, LadderBuilt, ProbeStarted]
    assert kinds[-4:] == [Chosen, TrainingStarted, TrainingProgress, TrainingEnded]
    outcomes = [told.trial.outcome for told in stage.told(TrialEnded)]
    assert {type(outcome) for outcome in outcomes} == {Measured, OutOfMemory}
    record = stage.folder.read_record()
    assert record.choice is not None
    assert record.choice.measured.tokens_per_s == max(o.tokens_per_s for o in outcomes if isinstance(o, Measured))
    assert record.choice.plain is not None
    assert record.result == stage.told(TrainingEnded)[0]
    assert record.request == REQUEST
    assert [trial.outcome for trial in record.trials] == outcomes
    assert {"command.sh", "report.html"} <= set(stage.files())
    assert stage.folder.ds_config.exists() == (record.choice.strategy.rung.zero_stage > 0)
    assert stage.machine.running_count == 0


def test_too_many_lost_rows_are_refused_before_the_search_and_kept_in_the_record(stage: Stage) -> None:
    stage.machine.rows = RowCounts(100, dropped=30, enough_tokens=96)
    with pytest.raises(UsageError, match=r"30 of 100 rows would not be trained on .*--seq 64\)(.|\n)*--seq 96 keeps"):
        stage.train()
    assert [type(event) for event in stage.events][-1] is DataRead
    assert stage.machine.specs == []
    record = stage.folder.read_record()
    assert record.profile is not None
    assert record.profile.rows == stage.machine.rows
    stage.train(replace(REQUEST, allowed_drop=1.0))
    assert stage.folder.read_record().result is not None
    assert not list(stage.folder.root.glob("earlier/*"))  # what is put up with is no other request


def test_the_machine_is_free_again_when_the_training_starts(stage: Stage) -> None:
    running: list[int] = []
    run = stage.training.run

    def look(*arguments: Any, **named: Any) -> RunEnd:
        running.append(stage.machine.running_count)
        return run(*arguments, **named)

    stage.training.run = look  # type: ignore[method-assign]
    stage.train()
    assert running == [0]


def test_a_launcher_stands_by_while_it_is_searched_and_until_the_training_is_over(stage: Stage) -> None:
    heard = stage.standby.heard
    stage.machine.on_ask = lambda asked: heard.append(type(asked).__name__)
    run = stage.training.run

    def train(*arguments: Any, standby: FakeStandby, **named: Any) -> RunEnd:
        standby.heard.append("trained")
        return run(*arguments, standby=standby, **named)

    stage.training.run = train  # type: ignore[method-assign]
    stage.train()
    assert heard[:2] == ["open", "started"]
    assert heard.index("settled") < heard.index("ProbeSpec")
    assert heard[-2:] == ["trained", "closed"]


def test_nothing_stands_by_where_nothing_is_searched(stage: Stage) -> None:
    stage.training.interrupted_by = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    stage.standby.heard.clear()
    stage.go_on()
    stage.train()
    assert stage.standby.heard == ["open", "closed"]


@pytest.mark.parametrize("capacity_bytes", [1, TIGHT_BYTES])
def test_what_stands_by_ends_with_a_search_that_finds_nothing_or_is_interrupted(
    stage: Stage, capacity_bytes: int
) -> None:
    stage.machine.capacity_bytes = capacity_bytes
    if capacity_bytes == TIGHT_BYTES:
        stage.interrupt_at_probe(1)
    with pytest.raises((NothingFits, KeyboardInterrupt)):
        stage.train()
    assert stage.standby.heard[-1] == "closed"
    assert "trained" not in stage.standby.heard


def test_every_trial_is_on_disk_before_the_next_probe(stage: Stage) -> None:
    counts: list[int] = []

    def count(asked: object) -> None:
        if isinstance(asked, ProbeSpec):
            counts.append(len(stage.folder.read_trials()))

    stage.machine.on_ask = count
    stage.train()
    # Two rehearsals side by side come first; each later probe finds all trials before it.
    assert counts == [0, 0, *range(2, len(stage.machine.specs))]
    assert len(counts) > 3


def test_an_interruption_at_any_probe_is_gone_on_from(undisturbed: Stage, tmp_path: Path) -> None:
    """At the rehearsals, at the first probes after them, in the middle and at the last one: each is two searches."""
    wanted = strategies(undisturbed)
    for number in (1, REHEARSALS, REHEARSALS + 1, REHEARSALS + 2, len(wanted) // 2, len(wanted)):
        stage = Stage(tmp_path / str(number))
        stage.interrupt_at_probe(number)
        with pytest.raises(KeyboardInterrupt):
            stage.train()
        kept = number - 1 if number > REHEARSALS else 0  # rehearsals end together
        assert strategies(stage) == wanted[:kept]
        assert not list(stage.folder.root.glob("*scratch*"))
        assert stage.machine.running_count == 0

        stage.go_on()
        stage.machine.specs.clear()
        stage.train()
        assert [spec.job.strategy for spec in stage.machine.specs] == wanted[kept:]
        assert [told.is_remembered for told in stage.told(TrialEnded)].count(True) == kept
        assert stage.folder.read_choice() == undisturbed.folder.read_choice()


@pytest.mark.parametrize(
    "end", [Killed(1, Phase.FORWARD, 9), TimedOut(0, Phase.STEP, 600.0), DiskFull(0, Phase.SAVE, "no space left")]
)
def test_a_probe_that_came_to_no_end_of_its_own_is_tried_again_at_the_next_start(
    undisturbed: Stage, tmp_path: Path, end: Outcome
) -> None:
    wanted = strategies(undisturbed)
    stage = Stage(tmp_path / "again")
    stage.interrupt_at_probe(REHEARSALS + 2)
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    kept = stage.folder.read_trials()
    broken = replace(kept[-1], strategy=wanted[len(kept)], outcome=end)
    stage.folder.append_trial(broken)
    stage.go_on()
    stage.machine.specs.clear()
    stage.train()
    assert [spec.job.strategy for spec in stage.machine.specs] == wanted[len(kept) :]
    assert stage.folder.read_trials()[: len(kept) + 1] == (*kept, broken), "what is written stays"
    assert stage.folder.read_choice() == undisturbed.folder.read_choice()


def test_an_interrupted_survey_is_gone_on_from(stage: Stage, undisturbed: Stage) -> None:
    def interrupt(asked: object) -> None:
        raise KeyboardInterrupt

    stage.machine.on_ask = interrupt
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    assert (stage.machine.running_count, strategies(stage)) == (0, [])
    stage.go_on()
    stage.train()
    assert stage.folder.read_choice() == undisturbed.folder.read_choice()
    assert not stage.folder.root.joinpath("earlier").exists()


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), Crashed(1, Phase.STEP, "a rank died")], ids=["interrupted", "failed"]
)
def test_a_training_that_ended_early_is_gone_on_from_without_an_agent(
    stage: Stage, end: KeyboardInterrupt | Crashed
) -> None:
    if isinstance(end, Crashed):
        stage.training.failure = end
        with pytest.raises(TrainingFailed, match="failed in step on rank 1: a rank died"):
            stage.train()
    else:
        stage.training.interrupted_by = end
        with pytest.raises(KeyboardInterrupt):
            stage.train()
    assert stage.folder.read_result() is None
    trials = strategies(stage)

    stage.go_on()
    stage.machine.start_agent = untouchable  # type: ignore[method-assign]
    stage.train()
    assert strategies(stage) == trials
    assert [told.resumed_from for told in stage.told(TrainingStarted)] == [
        str(stage.folder.checkpoints / "checkpoint-4")
    ]
    assert stage.folder.read_result() == stage.told(TrainingEnded)[0]


def test_a_checkpoint_that_the_user_names_is_where_the_training_starts(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint-2").mkdir()
    monkeypatch.chdir(tmp_path)
    named = replace(REQUEST, training=Training(resume="checkpoint-2"))
    with pytest.raises(UsageError, match="checkpoint-2 is no whole checkpoint"):
        stage.train(named)
    write_checkpoint(tmp_path / "checkpoint-2")
    stage.machine.capacity_bytes = GB
    stage.train(named)
    assert stage.told(TrainingStarted)[0].resumed_from == str(tmp_path / "checkpoint-2")


@pytest.mark.parametrize(("zero_stage", "lora"), [(2, None), (3, None), (1, REQUEST.lora)])
def test_a_free_search_stays_within_what_a_checkpoint_can_load(
    stage: Stage, tmp_path: Path, zero_stage: int, lora: Lora | None
) -> None:
    """Its ranks, stage, dtype and method; the request that is kept is the user's own."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint-2", zero_stage=zero_stage, lora=lora, ranks=4, dtype="fp32")
    stage.hardware = devices(4)
    stage.machine.capacity_bytes = GB
    request = replace(REQUEST, training=Training(resume=str(checkpoint)))
    stage.train(request)
    ladder = stage.told(LadderBuilt)[0].ladder
    rungs = {strategy.rung for step in ladder.steps for strategy in step.strategies}
    method = Method.FULL if lora is None else Method.LORA
    assert {(rung.zero_stage, rung.dtype, rung.method) for rung in rungs} == {(zero_stage, Dtype.FP32, method)}
    assert len(rungs) > 1
    assert stage.asked_ranks == [4]
    told = stage.told(Note)[0].text
    assert f"{checkpoint} is of {'LoRA' if lora else 'all parameters'}, ZeRO-{zero_stage}, fp32, 4 ranks" in told
    assert "cannot be checked" in stage.told(Note)[1].text
    assert stage.folder.read_request() == request


REFUSED_CHECKPOINTS = [
    ({"zero_stage": 3}, {"pins": Pins(zero_stage=2)}, "--zero-stage (3, now 2)"),
    ({"dtype": "bf16"}, {"pins": Pins(dtype=Dtype.FP32)}, "--dtype (bf16, now fp32)"),
    ({"ranks": 1, "zero_stage": 3, "global_batch": 8}, {"ranks": 2}, "--ranks (1, now 2)"),
    ({"seed": 7}, {}, "--seed (7, now 42)"),
    ({"global_batch": 16}, {}, "--batch-size (16, now 8)"),
    ({"sequence_length": 128}, {}, "--seq (128, now 64)"),
    ({"learning_rate": 1e-3}, {"training": Training(learning_rate=1e-4)}, "--learning-rate (0.001, now 0.0001)"),
    ({"lora": Lora(8, 32)}, {}, "--lora-r (8, now 64)"),
    ({"lora": Lora()}, {"pins": Pins(method=Method.FULL)}, "--method (lora, now full)"),
]


@pytest.mark.parametrize(
    ("there", "asked", "said"), REFUSED_CHECKPOINTS, ids=[said for *_, said in REFUSED_CHECKPOINTS]
)
def test_what_a_checkpoint_cannot_go_on_with_is_refused_before_the_search(
    stage: Stage, tmp_path: Path, there: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint-2", **there)
    request = replace(REQUEST, **asked)
    with pytest.raises(UsageError) as refused:
        stage.train(replace(request, training=replace(request.training, resume=str(checkpoint))))
    assert said in str(refused.value)
    assert "start from its weights: " in str(refused.value)
    assert stage.events == []
    assert not stage.folder.root.exists()


def _two_runs(tmp_path: Path) -> tuple[Stage, Stage, Path]:
    """One that was interrupted at its checkpoint, another one, and the data of both."""
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "a"}\n')
    first, second = Stage(tmp_path / "first"), Stage(tmp_path / "second")
    first.machine.capacity_bytes = second.machine.capacity_bytes = GB
    first.training.interrupted_by = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        first.train(replace(REQUEST, data=str(data), pins=Pins(method=Method.FULL, zero_stage=2)))
    write_checkpoint(first.checkpoint)
    return first, second, data


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"eval_fraction": 0.5}, "--eval-fraction (0.0, now 0.5)"),
        ({"model": "{copy}"}, "--model ("),
        ({"data": None}, "--data ("),
        ({"training": Training(extra_arguments=("--packing",))}, "the arguments after -- (not set, now --packing)"),
    ],
)
def test_what_changes_the_rows_that_come_next_is_refused_by_name(
    tmp_path: Path, asked: dict[str, Any], said: str
) -> None:
    first, second, data = _two_runs(tmp_path)
    shutil.copytree(MODEL, tmp_path / "copy")
    asked = {name: str(tmp_path / "copy") if value == "{copy}" else value for name, value in asked.items()}
    request = replace(REQUEST, **{"data": str(data), **asked})
    with pytest.raises(UsageError) as refused:
        second.train(replace(request, training=replace(request.training, resume=str(first.checkpoint))))
    assert said in str(refused.value)


def test_data_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    first, second, data = _two_runs(tmp_path)
    moved = tmp_path / "moved.jsonl"
    data.rename(moved)
    request = replace(REQUEST, data=str(moved), training=Training(resume=str(first.checkpoint), epochs=5.0))
    second.train(request)
    assert second.told(TrainingStarted)[0].resumed_from == str(first.checkpoint)
    assert "--epochs (3.0, now 5.0)" in second.told(Note)[1].text
    data.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(UsageError, match="other rows in"):
        Stage(tmp_path / "third").train(replace(request, data=str(data)))
    first.go_on()
    with pytest.raises(UsageError, match=r"holds another training \(other rows in .*data\.jsonl"):
        first.train(replace(REQUEST, data=str(data), pins=Pins(method=Method.FULL, zero_stage=2)))


def test_a_run_that_began_with_a_checkpoint_goes_on_from_its_own(stage: Stage, tmp_path: Path) -> None:
    """And from the named one again when another one is named; what comes after it is kept aside."""
    first = write_checkpoint(tmp_path / "checkpoint-2")
    request = replace(REQUEST, training=Training(resume=str(first)))
    stage.training.interrupted_by, stage.machine.capacity_bytes = KeyboardInterrupt(), GB
    for begun_from in (first, stage.checkpoint, stage.checkpoint):
        with pytest.raises(KeyboardInterrupt):
            stage.train(request)
        assert stage.told(TrainingStarted)[0].resumed_from == str(begun_from)
    other = write_checkpoint(tmp_path / "checkpoint-3")
    with pytest.raises(KeyboardInterrupt):
        stage.train(replace(request, training=Training(resume=str(other))))
    assert stage.told(TrainingStarted)[0].resumed_from == str(other)
    assert (stage.folder.root / "earlier/1/checkpoints/checkpoint-4/trainer_state.json").is_file()
    assert any("were moved to" in note.text for note in stage.told(Note))


def test_a_choice_that_cannot_load_the_checkpoint_makes_way(stage: Stage, tmp_path: Path) -> None:
    stage.machine.capacity_bytes = GB
    stage.training.run = _no_step  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    choice = stage.folder.read_choice()
    assert choice is not None
    checkpoint = write_checkpoint(tmp_path / "checkpoint-2", zero_stage=3)
    assert choice.strategy.rung.zero_stage != 3
    with pytest.raises(KeyboardInterrupt):
        stage.train(replace(REQUEST, training=Training(resume=str(checkpoint))))
    choice = stage.folder.read_choice()
    assert choice is not None
    assert choice.strategy.rung.zero_stage == 3
    assert (stage.folder.root / "earlier/1/choice.json").is_file()


def _no_step(*_: Any, **__: Any) -> NoReturn:
    """A training that is interrupted before its first checkpoint."""
    raise KeyboardInterrupt


def test_a_finished_run_is_recalled_and_nothing_is_started(stage: Stage) -> None:
    stage.train()
    before = stage.files()
    result = stage.told(TrainingEnded)
    stage.machine.start_agent = untouchable  # type: ignore[method-assign]
    stage.training.run = untouchable  # type: ignore[method-assign]
    stage.train()
    assert stage.told(TrainingEnded) == result
    assert [(told.choice, told.is_remembered) for told in stage.told(Chosen)] == [(stage.folder.read_choice(), True)]
    assert "finished already" in stage.told(Note)[0].text
    assert stage.files() == before


def test_a_finished_run_whose_model_is_gone_says_so_and_makes_it_anew(stage: Stage) -> None:
    stage.train()
    trials = strategies(stage)
    shutil.rmtree(stage.folder.model)
    assert stage.folder.read_record().lost == (str(stage.folder.model),)
    result, stage.training.first_loss = stage.folder.read_result(), None  # as where no step was left to train
    stage.machine.start_agent = untouchable  # type: ignore[method-assign]
    stage.train()
    assert f"{stage.folder.model} of this finished run is gone" in stage.told(Note)[0].text
    assert stage.told(TrainingStarted)[0].resumed_from == str(stage.folder.checkpoints / "checkpoint-4")
    assert strategies(stage) == trials
    assert stage.folder.read_record().lost == ()
    assert stage.folder.read_result() == result


def test_a_run_is_whole_wherever_it_comes_to_lie(stage: Stage) -> None:
    stage.train()
    elsewhere = RunFolder(stage.root / "elsewhere")
    stage.folder.root.rename(elsewhere.root)
    stage.folder = elsewhere
    stage.training.run = untouchable  # type: ignore[method-assign]
    stage.train()
    assert stage.told(TrainingEnded)[0].model_path == str(elsewhere.model)
    gone = str(stage.root / "run").encode()
    assert [name for name, content in stage.files().items() if gone in content] == []


def test_a_training_that_leaves_no_model_has_failed(stage: Stage) -> None:
    stage.training.has_weights = False
    with pytest.raises(TrainingFailed, match="left no model"):
        stage.train()
    assert stage.folder.read_result() is None


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()], ids=["finished", "interrupted"])
def test_another_request_in_a_folder_with_training_is_refused(stage: Stage, error: BaseException | None) -> None:
    stage.training.interrupted_by = error
    if error is None:
        stage.train()
    else:
        with pytest.raises(type(error)):
            stage.train()
    before = stage.files()
    with pytest.raises(UsageError, match=r"(?s)--batch-size \(8, now 4\).*--output-dir"):
        stage.train(replace(REQUEST, global_batch=4))
    assert stage.files() == before


def test_another_machine_in_a_folder_with_training_is_refused(stage: Stage) -> None:
    stage.train()
    stage.hardware = devices(4)
    with pytest.raises(UsageError, match="2 × cpu of a test there, 4 × cpu of a test here"):
        stage.train()


def test_a_search_alone_makes_way_for_another_request(stage: Stage) -> None:
    stage.interrupt_at_probe(3)
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    before = stage.files()
    stage.go_on()
    other = replace(REQUEST, global_batch=4)
    stage.train(other)
    assert {told.is_remembered for told in stage.told(TrialEnded)} == {False}
    assert stage.folder.read_request() == other
    earlier = {name.removeprefix("earlier/1/"): text for name, text in stage.files().items() if "earlier/1/" in name}
    assert earlier == before


def test_a_folder_is_shared_with_a_repository_and_nothing_of_it_moves(stage: Stage) -> None:
    """Also where its folders have the names of ours."""
    repository = stage.folder.root
    names = ("train.py", "data.jsonl", ".git/HEAD", "logs/mine.log", "checkpoints/notes.txt", "earlier/1/thesis.tex")
    for name in names:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(f"{name} is the user's")
    theirs = stage.files()
    stage.interrupt_at_probe(3)
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    assert ".git, data.jsonl" in stage.told(Note)[0].text
    assert "train.py" in stage.told(Note)[0].text
    stage.go_on()
    stage.train(replace(REQUEST, global_batch=4))
    assert theirs.items() <= stage.files().items()
    assert "earlier/2/trials.jsonl" in stage.files()
    assert [note.text for note in stage.told(Note) if "was moved to" in note.text]


@pytest.mark.parametrize("name", ["request.json", "model/config.json", "ds_config.json", "checkpoints/checkpoint-5/x"])
def test_what_autofit_did_not_write_is_never_taken_for_its_own(stage: Stage, name: str) -> None:
    theirs = stage.folder.root / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("{}")
    with pytest.raises(UsageError, match=name.partition("/x")[0].partition("/config")[0]):
        stage.train()
    assert list(stage.files()) == [name]
    assert stage.events == []


def test_the_ladder_of_a_run_that_goes_on_is_that_of_its_beginning(stage: Stage) -> None:
    """Free memory changes from minute to minute; rungs that were judged by the earlier figure stay as they were."""
    stage.interrupt_at_probe(3)
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    ladder = stage.told(LadderBuilt)[0].ladder
    stage.go_on()
    crowded = [replace(device, memory_free_bytes=7 * GB) for device in stage.hardware.devices]
    stage.hardware = Hardware((replace(stage.hardware.nodes[0], devices=tuple(crowded)),))
    stage.train()
    assert stage.told(LadderBuilt)[0].ladder == ladder


def test_a_dry_run_shows_the_ladder_and_writes_nothing(stage: Stage) -> None:
    stage.machine.on_ask = untouchable
    stage.train(options=SearchOptions(is_dry_run=True))
    assert len(stage.told(LadderBuilt)[0].ladder.steps) > 3
    assert not stage.folder.root.exists()


def test_a_dry_run_has_data_and_arguments_looked_at_where_there_are_any(stage: Stage) -> None:
    words = replace(REQUEST, data=None, training=Training(extra_arguments=("--weight_decay", "0.1")))
    for request in (replace(REQUEST, data=None), words):
        stage.train(request, SearchOptions(is_dry_run=True))
    assert [asked.training.extra_arguments for asked in stage.machine.tracer.checked] == [("--weight_decay", "0.1")]


def test_a_batch_that_the_ranks_cannot_share_is_refused_before_anything_is_written(stage: Stage) -> None:
    with pytest.raises(UsageError, match="--batch-size 14 and 16"):
        stage.train(replace(REQUEST, global_batch=15))
    assert not stage.folder.root.exists()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"objective": Objective.ENERGY}, "--optimize energy needs a counter, and this one has none"),
        ({"baseline": "zero9"}, "--baseline zero9 is no strategy of this request; there are zero0, zero1, "),
    ],
)
def test_what_cannot_be_looked_for_or_compared_with_is_refused_before_anything_is_written(
    stage: Stage, asked: dict[str, Any], told: str
) -> None:
    def lacking(hardware: Hardware) -> None:
        raise UsageError("--optimize energy needs a counter, and this one has none")

    stage.tools = {"check_counted": lacking}
    with pytest.raises(UsageError, match=re.escape(told)):
        stage.train(replace(REQUEST, **asked))
    assert not stage.folder.root.exists()


def test_a_training_looks_for_the_least_memory_and_tells_what_ratios_are_of(stage: Stage) -> None:
    stage.train(replace(REQUEST, objective=Objective.MEMORY))
    choice = stage.told(Chosen)[-1].choice

    measured = [one.outcome for one in stage.folder.read_trials() if isinstance(one.outcome, Measured)]
    assert choice.measured.peak_device_bytes <= 1.01 * min(one.peak_device_bytes for one in measured)
    assert choice.why.startswith("the least peak memory: ")
    kept = stage.folder.read_choice()
    assert kept is not None
    assert kept.baseline == choice.baseline
    assert choice.baseline.strategy.rung.zero_stage == 0
    assert all(spec.least_tokens_per_s is None for spec in stage.machine.specs)


def test_an_exhaustive_search_probes_all_that_may_fit_and_tells_the_regret(stage: Stage, undisturbed: Stage) -> None:
    stage.train(options=SearchOptions(is_exhaustive=True, tolerance=0.01))
    usual, everything = strategies(undisturbed), strategies(stage)
    assert everything[: len(usual)] == usual
    assert len(everything) > len(usual)
    fits = [s for s in everything if peak_bytes(s) <= TIGHT_BYTES]
    choice = stage.folder.read_choice()
    assert choice is not None
    assert choice.measured.tokens_per_s == max(tokens_per_s(s) for s in fits)
    assert "regret" in choice.why


def test_what_is_left_of_a_training_decides_how_far_the_search_looks(stage: Stage, tmp_path: Path) -> None:
    """Of a million steps, one after a checkpoint's, then all; certainty is not asked for."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint-2")
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 999_999}))
    counts = []
    for resume in (str(checkpoint), None):
        stage.folder = RunFolder(stage.root / f"run{len(counts)}")
        before = len(stage.machine.specs)
        stage.machine.capacity_bytes = GB
        request = replace(
            REQUEST, training=Training(max_steps=1_000_000, resume=resume), pins=Pins(method=Method.FULL, zero_stage=2)
        )
        stage.train(request, SearchOptions())
        counts.append(len(stage.machine.specs) - before)
    assert 0 == counts[0] < counts[1]


class FailingStarts:
    """A training whose first starts end as `ends` says, each after the last step that it names."""

    def __init__(self, stage: Stage, *ends: RunEnd, after_step: int | None = None) -> None:
        self._stage, self._run = stage, stage.training.run
        self._ends, self._after_step = list(ends), after_step
        self.chosen: list[Strategy] = []
        stage.training.run = self.run  # type: ignore[method-assign]

    def run(self, hardware: Hardware, files: TrainingFiles, log_path: Path, show: Any, **named: Any) -> RunEnd:
        choice = self._stage.folder.read_choice()
        assert choice is not None
        self.chosen.append(choice.strategy)
        if not self._ends or choice.measured is not None:
            return self._run(hardware, files, log_path, show, **named)
        if self._after_step is not None:
            show(TrainingProgress(self._after_step, 8, 2.0, 100.0, GB, 1.0))
        return self._ends.pop(0)


@pytest.mark.parametrize(
    "ended",
    [
        OutOfMemory(0, Phase.BACKWARD, Place.DEVICE, ""),
        Crashed(0, Phase.FORWARD, "no kernel image is available"),
        SignalCrash(0, Phase.BACKWARD, signal.SIGSEGV),
        Unsupported("this attention has no backward pass"),
        TimedOut(0, Phase.FORWARD, 120.0),
    ],
    ids=lambda ended: type(ended).__name__,
)
def test_what_was_chosen_unprobed_and_fails_at_its_start_is_a_trial_of_the_search_that_follows(
    stage: Stage, ended: Outcome
) -> None:
    """Nothing is lost: there is no checkpoint yet."""
    stage.machine.capacity_bytes = GB
    starts = FailingStarts(stage, ended, after_step=0)
    stage.train(replace(REQUEST, training=Training(max_steps=1)), SearchOptions())
    first, second = starts.chosen
    record = stage.folder.read_record()
    assert (record.trials[0].strategy, record.trials[0].outcome) == (first, ended)
    assert first != second
    assert record.result is not None
    assert any("nothing is lost, and it is searched now" in note.text for note in stage.told(Note))


def test_what_failed_at_its_start_is_not_started_again(stage: Stage) -> None:
    """Not after a second failure either, which knows of the first: each is one trial."""
    stage.machine.capacity_bytes = GB
    ends = (Crashed(0, Phase.FORWARD, "boom"), Unsupported("that is not there"))
    starts = FailingStarts(stage, *ends)
    stage.train(replace(REQUEST, training=Training(max_steps=1)), SearchOptions())
    assert len(starts.chosen) == len(set(starts.chosen)) == 3
    trials = stage.folder.read_record().trials
    assert [trial.outcome for trial in trials if trial.outcome in ends] == list(ends)


@pytest.mark.parametrize(
    ("ended", "after_step"),
    [
        (UserFault(0, Phase.REWARD, "ZeroDivisionError in rewards.py"), None),
        (DiskFull(0, Phase.SAVE, "no space left in /data"), None),
        (Crashed(0, Phase.FORWARD, "boom", is_ours=True), None),
        (Crashed(0, Phase.FORWARD, "boom"), 3),
    ],
    ids=["the user's own", "the disk", "our own", "after a step"],
)
def test_what_another_strategy_would_not_do_better_ends_an_unprobed_training(
    stage: Stage, ended: RunEnd, after_step: int | None
) -> None:
    stage.machine.capacity_bytes = GB
    starts = FailingStarts(stage, ended, after_step=after_step)
    with pytest.raises((TrainingFailed, InternalError)):
        stage.train(replace(REQUEST, training=Training(max_steps=1)), SearchOptions())
    assert len(starts.chosen) == 1


def test_what_was_remembered_is_confirmed_and_not_probed_again(stage: Stage) -> None:
    stage.train()
    first, before = stage.folder.read_choice(), strategies(stage)
    stage.folder = RunFolder(stage.root / "again")
    stage.machine.specs.clear()
    stage.train()
    second = stage.folder.read_choice()
    assert first is not None
    assert second is not None
    again = [spec.job.strategy for spec in stage.machine.specs]
    assert again.count(first.strategy) == 1
    assert not set(again) & set(before) - {first.strategy}
    assert not any(spec.job.is_rehearsal for spec in stage.machine.specs)
    assert second.strategy == first.strategy
    assert "earlier runs" in second.why


def test_nothing_fits(stage: Stage) -> None:
    stage.machine.capacity_bytes = 10**6
    for _ in range(2):  # the second time it is known already
        with pytest.raises(NothingFits):
            stage.train()
        assert isinstance(stage.events[-1], GaveUp)
        assert stage.events[-1].action.closest is not None
    trials = strategies(stage)
    assert len(trials) == len(set(trials)) == len(stage.machine.specs)
    assert stage.folder.read_choice() is None
    assert "report.html" in stage.files()
    assert not stage.training.started_with


def test_data_that_is_refused_starts_no_probe_and_leaves_no_agent(stage: Stage, tmp_path: Path) -> None:
    data = tmp_path / "broken.jsonl"
    data.write_text('{"text": "a"}\n{"text"\n')
    request = replace(REQUEST, data=str(data))
    with pytest.raises(UsageError, match="line 2"):
        stage.train(request)
    assert (stage.machine.running_count, stage.machine.specs) == (0, [])
    data.write_text('{"text": "a"}\n')
    stage.train(request)
    assert stage.told(TrainingEnded)


@pytest.mark.parametrize("options", [OPTIONS, SearchOptions(is_dry_run=True)], ids=["train", "dry run"])
def test_a_tracker_that_is_not_there_is_said_before_anything_is_started(stage: Stage, options: SearchOptions) -> None:
    with pytest.raises(UsageError, match="--report-to wanbd: there is no such tracker; did you mean wandb"):
        stage.train(replace(REQUEST, training=Training(report_to=("wanbd",))), options)
    assert (stage.machine.survey_count, stage.machine.specs) == (0, [])
    assert not stage.folder.exists


def test_the_norm_that_is_asked_for_stands_in_every_configuration(stage: Stage) -> None:
    stage.train(replace(REQUEST, training=Training(extra_arguments=("--max_grad_norm", "0.3"))))
    configs = [spec.job.deepspeed_config for spec in stage.machine.specs]
    assert {json.loads(config)["gradient_clipping"] for config in configs if config is not None} == {0.3}
    assert [config is None for config in configs] == [
        spec.job.strategy.rung.zero_stage == 0 for spec in stage.machine.specs
    ]


def test_local_paths_become_absolute_and_mean_the_same_from_everywhere(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train.jsonl", "eval.jsonl"):
        (tmp_path / name).write_text('{"text": "a"}\n')
    monkeypatch.chdir(tmp_path)
    near = replace(REQUEST, model=os.path.relpath(MODEL), data="train.jsonl", eval_data="./eval.jsonl")
    stage.train(near)
    absolute = replace(
        REQUEST, model=str(MODEL), data=str(tmp_path / "train.jsonl"), eval_data=str(tmp_path / "eval.jsonl")
    )
    assert stage.folder.read_request() == absolute
    assert {spec.job.request for spec in stage.machine.specs} == {absolute}
    monkeypatch.chdir("/")
    stage.train(absolute)  # would be refused as another request


@pytest.mark.parametrize(
    ("data", "located"), [("*.jsonl", "{here}/*.jsonl"), ("org/set:part", "org/set:part"), (None,) * 2]
)
def test_a_glob_is_a_path_and_a_hub_id_is_not(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str | None, located: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Request] = []

    def look(what: Request | ProbeSpec) -> NoReturn:
        assert isinstance(what, Request)
        asked.append(what)
        raise KeyboardInterrupt

    stage.machine.on_ask = look
    with pytest.raises(KeyboardInterrupt):
        stage.train(replace(REQUEST, data=data))
    assert asked[0].data == (located and located.format(here=tmp_path))


@pytest.mark.parametrize(("rank_count", "global_batch"), [(1, 6), (2, 16), (4, 32)])
def test_every_probe_keeps_the_global_batch(stage: Stage, rank_count: int, global_batch: int) -> None:
    stage.hardware = devices(rank_count)
    stage.train(replace(REQUEST, global_batch=global_batch))
    assert len({spec.job.strategy.micro_batch for spec in stage.machine.specs}) > 1
    for spec in stage.machine.specs:
        strategy = spec.job.strategy
        assert strategy.micro_batch * strategy.gradient_accumulation * spec.job.rank_count == global_batch
        if strategy.rung.zero_stage == 0:
            continue
        config = json.loads(spec.job.deepspeed_config)
        assert config["train_batch_size"] == global_batch
        assert config["train_micro_batch_size_per_gpu"] == strategy.micro_batch
        assert config["gradient_accumulation_steps"] == strategy.gradient_accumulation


def test_a_rung_saves_until_it_was_measured_once(stage: Stage) -> None:
    stage.train()
    outcomes = {trial.strategy: trial.outcome for trial in stage.folder.read_trials()}
    measured = set()
    for spec in stage.machine.specs:
        strategy = spec.job.strategy
        assert spec.has_save == (strategy.rung not in measured), strategy
        if isinstance(outcomes[strategy], Measured):
            measured.add(strategy.rung)
    assert {spec.has_save for spec in stage.machine.specs} == {True, False}


def test_probes_have_names_of_their_own_even_after_an_interruption(stage: Stage) -> None:
    stage.interrupt_at_probe(3)
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    stage.go_on()
    stage.train(options=SearchOptions(probe_timeout_s=77.0))
    logs = [spec.log_path for spec in stage.machine.specs]
    assert logs[2] == logs[3]  # the interrupted one and its repetition
    numbers = [int(Path(log).name.split("-")[1]) for log in logs]
    assert numbers == [1, 2, 3, *range(3, len(logs))]
    assert {spec.heartbeat_timeout_s for spec in stage.machine.specs[3:]} == {77.0}


def test_who_waits_longer_than_usual_for_a_probe_waits_longer_for_a_step(stage: Stage) -> None:
    stage.train(options=replace(OPTIONS, probe_timeout_s=2 * SearchOptions.probe_timeout_s))
    silences_s = [spec.step_silence_s for spec in stage.machine.specs if not spec.job.is_rehearsal]
    assert min(silences_s) == 2 * LEAST_S


PINS = [
    (Pins(method=Method.FULL), lambda s: s.rung.method is Method.FULL),
    (Pins(zero_stage=3), lambda s: s.rung.zero_stage == 3),
    (
        Pins(gradient_checkpointing=GradientCheckpointing.ON),
        lambda s: s.rung.gradient_checkpointing is GradientCheckpointing.ON,
    ),
    (Pins(offload=Offload.NONE, micro_batch=2), lambda s: (s.rung.offload, s.micro_batch) == (Offload.NONE, 2)),
]


@pytest.mark.parametrize(("pins", "is_meant"), PINS, ids=["method", "stage", "checkpointing", "micro-batch"])
def test_a_pin_only_narrows(stage: Stage, pins: Pins, is_meant: Callable[[Strategy], bool]) -> None:
    stage.train(options=SearchOptions(is_dry_run=True))
    all_of_them = {s for step in stage.told(LadderBuilt)[0].ladder.steps for s in step.strategies}
    stage.train(replace(REQUEST, pins=pins))
    narrow = {s for step in stage.told(LadderBuilt)[0].ladder.steps for s in step.strategies}
    assert narrow == {s for s in all_of_them if is_meant(s)}
    assert {spec.job.strategy for spec in stage.machine.specs} <= narrow


def test_a_pinned_kernel_that_is_installed_is_searched_with(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    write_packages(tmp_path / "packages", flash_attn="2.8.3")
    stage.hardware = devices(kind=DeviceKind.CUDA)
    stage.train(replace(REQUEST, pins=Pins(attention=Attention.FLASH_2)))
    assert {strategy.rung.attention for strategy in strategies(stage)} == {Attention.FLASH_2}


def test_the_memory_limit_reaches_every_probe(stage: Stage) -> None:
    stage.machine.capacity_bytes = GB
    stage.train(replace(REQUEST, memory_limit_bytes=TIGHT_BYTES))
    assert {spec.job.memory_limit_bytes for spec in stage.machine.specs} == {TIGHT_BYTES}
    choice = stage.folder.read_choice()
    assert choice is not None
    assert peak_bytes(choice.strategy) <= TIGHT_BYTES


def test_cpu_probes_see_every_width_and_gpu_probes_the_widest(stage: Stage) -> None:
    widths: dict[DeviceKind, set[tuple[int, ...]]] = {}
    for kind in DeviceKind:
        other = Stage(stage.folder.root / kind.value)
        other.machine.lengths_tokens, other.machine.capacity_bytes = (20, 40, 90, 120), GB
        other.hardware = devices(kind=kind)
        other.train(replace(REQUEST, sequence_length=128))
        widths[kind] = {tuple(shape.padded_tokens for shape in spec.worst) for spec in other.machine.specs}
        alone = {DeviceKind.CPU: {()}, DeviceKind.CUDA: {("0",), ("1",)}}[kind]
        together = {DeviceKind.CPU: {()}, DeviceKind.CUDA: {("0", "1")}}[kind]
        rehearsals = other.machine.specs[:REHEARSALS]
        assert {spec.job.devices for spec in rehearsals if spec.job.is_rehearsal} == alone
        assert {spec.job.devices for spec in other.machine.specs if not spec.job.is_rehearsal} == together
    assert widths == {DeviceKind.CPU: {(32, 64, 96, 120)}, DeviceKind.CUDA: {(120,)}}


@pytest.mark.parametrize(("method", "count"), [(Method.LORA, 1), (Method.FULL, 0)])
def test_only_an_adapter_is_merged(stage: Stage, method: Method, count: int) -> None:
    request = replace(REQUEST, pins=Pins(method=method), training=Training(merge=True))
    stage.train(request)
    assert len(stage.merged) == count
    if count:
        shutil.rmtree(stage.folder.merged)
        stage.train(request)
        assert (len(stage.merged), len(stage.training.started_with)) == (2, 1)
    result = stage.folder.read_result()
    assert result is not None
    assert result.merged_path == (str(stage.folder.merged) if count else None)
    if count:
        assert stage.merged[0]["base"] == str(MODEL)
        assert (stage.merged[0]["adapter"], stage.merged[0]["out"]) == (stage.folder.model, stage.folder.merged)


def test_an_adapter_that_is_not_merged_stays_and_is_merged_the_next_time(stage: Stage) -> None:
    request, merge = replace(REQUEST, pins=Pins(method=Method.LORA), training=Training(merge=True)), stage.merge
    stage.merge = lambda hardware, request, **asked: MergeFailed(str(asked["adapter"]))  # type: ignore[method-assign]
    with pytest.raises(TrainingFailed, match=rf"merging failed, the adapter in {stage.folder.model} is whole"):
        stage.train(request)
    assert stage.folder.read_result() is None
    stage.merge = merge  # type: ignore[method-assign]
    stage.train(request)
    assert len(stage.merged) == 1


def test_the_training_is_given_the_files_of_the_choice(stage: Stage) -> None:
    stage.train(replace(REQUEST, pins=Pins(zero_stage=2)))
    files = stage.training.started_with[0]
    assert files.choice.is_file()
    assert files.request.is_file()
    assert json.loads(files.deepspeed_config.read_text())["train_batch_size"] == REQUEST.global_batch


def test_a_choice_without_an_engine_has_no_configuration(stage: Stage) -> None:
    stage.train(replace(REQUEST, pins=Pins(zero_stage=0)))
    assert stage.training.started_with[0].deepspeed_config is None
    assert not stage.folder.ds_config.exists()
    assert "ds_config.json" not in stage.folder.command.read_text()


def test_heartbeats_are_shown_with_their_strategy(stage: Stage) -> None:
    stage.train()
    heartbeats = stage.told(ProbeHeartbeat)
    assert {heartbeat.phase for heartbeat in heartbeats} >= {Phase.BUILD, Phase.BACKWARD}
    assert [heartbeat.strategy for heartbeat in heartbeats if heartbeat.phase is Phase.BUILD] == strategies(stage)


def with_disk(free_bytes: int) -> Hardware:
    node = devices().nodes[0]
    return replace(devices(), nodes=(replace(node, host=replace(node.host, disk_free_bytes=free_bytes)),))


def test_a_disk_without_room_for_a_checkpoint_and_the_model_is_refused_before_the_search(stage: Stage) -> None:
    stage.hardware = with_disk(1_000_000)
    with pytest.raises(
        UsageError, match=r"would write .* at least into .*/run \(a checkpoint .*, the model .*\), where"
    ):
        stage.train()
    assert stage.machine.specs == []
    assert not stage.folder.exists


def test_a_disk_that_may_get_full_is_noted_and_one_with_checkpoints_is_not_looked_at(stage: Stage) -> None:
    stage.training.interrupted_by = KeyboardInterrupt()
    stage.hardware = with_disk(300_000_000)
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    assert any("older checkpoints go first" in note.text for note in stage.told(Note))
    stage.go_on()
    stage.hardware = with_disk(1_000_000)
    stage.train()
    assert stage.told(TrainingStarted)[0].resumed_from == str(stage.checkpoint)
