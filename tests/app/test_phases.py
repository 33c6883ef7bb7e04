"""Several trainings in a row on a simulated machine: what each is trained on, and how they are gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from autofit.app import train
from autofit.app.phases import train_phases
from autofit.domain.errors import UsageError
from autofit.domain.event import Event, LadderBuilt, Note, PhaseStarted, Screen, TrainingEnded, TrainingStarted
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.request import Generation, Request, Reward, SearchOptions, Training
from autofit.domain.run_end import RunEnd
from autofit.domain.task import Task
from autofit.domain.training_phase import TrainingPhase
from autofit.domain.workload import RowCounts
from autofit.report.json_screen import JsonScreen
from autofit.report.plain import PlainScreen
from autofit.runs.run_folder import RunFolder
from autofit.store import Store
from tests.app.test_train import MODEL, REQUEST, FakeTraining, Stage

LORA = Pins(method=Method.LORA)


def link_model(folder: Path) -> None:
    """Has a folder hold the tiny model, whatever was there."""
    folder.mkdir(exist_ok=True)
    for path in MODEL.iterdir():
        (folder / path.name).unlink(missing_ok=True)
        (folder / path.name).symlink_to(path)


def score(folder: Path) -> None:
    """Has the tiny model in a folder be one that scores."""
    config = json.loads((MODEL / "config.json").read_text()) | {
        "architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}
    }  # fmt: skip
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))


class ModelTraining(FakeTraining):
    """Leaves a model that another training can start from; `interrupted_at` is the start that is interrupted."""

    interrupted_at = 0

    def run(self, *arguments: Any, **named: Any) -> RunEnd:
        if len(self.started_with) + 1 == self.interrupted_at:
            self.interrupted_by = KeyboardInterrupt()
        end = super().run(*arguments, **named)
        files = self.started_with[-1]
        link_model(files.model)
        if RunFolder(files.request.parent).read_request().task is Task.REWARD:
            score(files.model)
        return end


class Row(Stage):
    """The folder of several trainings; `train_all` is the command on it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.all = root / "all"
        self.training = ModelTraining()
        self.screens: list[Screen] = []  # that show the same

    def show(self, event: Event) -> None:
        super().show(event)
        for screen in self.screens:
            screen.show(event)

    def merge(self, hardware: Any, request: Request, **asked: Any) -> None:
        super().merge(hardware, request, **asked)
        link_model(asked["out"])
        if request.task is Task.REWARD:
            score(asked["out"])

    def train_all(self, *phases: TrainingPhase) -> None:
        self.events.clear()
        tools = train.Tools(
            detect=self.detect,
            start_agent=self.machine.start_agent,
            run_training=self.training.run,
            stand_by=self.standby,
            merge=self.merge,
            open_store=lambda: Store(self.root / "cache" / "autofit.sqlite"),
            start_tracer=self.machine.start_tracer,
        )
        train_phases(phases, output_dir=self.all, screen=self, tools=tools)

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.all / name)

    @property
    def trained(self) -> list[str]:
        """The phases whose training was started, by their folders."""
        return [files.model.parent.name for files in self.training.started_with]


@pytest.fixture
def row(tmp_path: Path) -> Row:
    return Row(tmp_path)


def phase(name: str, *, rewarded_by: tuple[str, ...] = (), **changes: Any) -> TrainingPhase:
    """Which starts from the tiny model unless it is told a phase; `changes` are fields of the request."""
    starts_from = "facts" if changes.get("model") == "facts" else None
    return TrainingPhase(name, replace(REQUEST, **changes), SearchOptions(), starts_from, rewarded_by)


FIRST = phase("facts", training=Training(merge=True))
SECOND = phase("style", model="facts")


def requests(row: Row, names: Iterable[str]) -> list[Request]:
    found = [row.run(name).read_request() for name in names]
    return [request for request in found if request is not None]


def test_each_phase_is_trained_on_the_model_of_the_one_that_it_names(row: Row) -> None:
    grpo = phase(
        "grpo", rewarded_by=("reward",), model="facts", task=Task.GRPO,
        generation=Generation(4, 16, (Reward("reward", 0.5), Reward("rewards:brief"))),
    )  # fmt: skip
    reward = phase("reward", task=Task.REWARD, model="facts", pins=LORA)
    merging = replace(reward, request=replace(reward.request, training=Training(merge=True)))
    row.train_all(phase("facts", pins=Pins(method=Method.FULL)), merging, grpo)
    assert [(told.number, told.count, told.phase.name) for told in row.told(PhaseStarted)] == [
        (1, 3, "facts"), (2, 3, "reward"), (3, 3, "grpo")
    ]  # fmt: skip
    facts, rewarding, last = requests(row, ("1-facts", "2-reward", "3-grpo"))
    assert facts.model == str(MODEL)
    assert rewarding.model == last.model == str(row.run("1-facts").model.resolve())
    merged = str(row.run("2-reward").merged.resolve())  # an adapter alone is no model to start from
    assert last.generation == Generation(4, 16, (Reward(merged, 0.5), Reward("rewards:brief")))


def test_the_same_command_goes_on_in_the_phase_that_was_interrupted(row: Row) -> None:
    row.training.interrupted_at = 2
    with pytest.raises(KeyboardInterrupt):
        row.train_all(FIRST, SECOND)
    assert row.trained == ["1-facts", "2-style"]
    trials = row.run("2-style").read_trials()

    row.training.interrupted_at, row.training.interrupted_by = 0, None
    row.train_all(FIRST, SECOND)
    assert row.trained == ["1-facts", "2-style", "2-style"]
    assert [told.resumed_from for told in row.told(TrainingStarted)] == [row.run("2-style").last_checkpoint]
    assert row.run("2-style").read_trials() == trials
    assert len(row.told(TrainingEnded)) == 2  # the finished one is told, too

    row.train_all(FIRST, SECOND)
    assert row.trained == ["1-facts", "2-style", "2-style"]


def test_what_is_wrong_with_a_later_phase_is_said_before_the_first_starts(row: Row) -> None:
    wrong = phase("style", model="facts", training=Training(report_to=("nowhere",)))
    with pytest.raises(UsageError, match=r"^Phase style: .*nowhere"):
        row.train_all(FIRST, wrong)
    lacking = phase("style", model="facts", data="no-such.jsonl")
    with pytest.raises(UsageError, match=r"^Phase style: no-such.jsonl: there is no such file or folder"):
        row.train_all(FIRST, lacking)
    with pytest.raises(UsageError, match=r"^Phase facts: no-such.jsonl: there is no such file or folder"):
        row.train_all(replace(FIRST, request=replace(FIRST.request, data="no-such.jsonl")), SECOND)
    other = phase("other", model="./no-such-model")
    with pytest.raises(UsageError, match=r"^Phase other: There is no folder ./no-such-model"):
        row.train_all(FIRST, SECOND, other)
    assert (row.events, row.trained, row.machine.specs) == ([], [], [])


def test_a_folder_that_is_no_place_for_several_trainings(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    row.train()
    row.all = row.folder.root
    with pytest.raises(UsageError, match="is the run folder of one training"):
        row.train_all(FIRST, SECOND)
    monkeypatch.setenv("HOME", str(row.root))
    row.all = row.root
    with pytest.raises(UsageError, match="is a home folder"):
        row.train_all(FIRST, SECOND)


def test_the_data_of_later_phases_is_read_before_the_first_starts_and_once(row: Row, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a"}\n{"text": \n')
    second = phase("style", model="facts", data=str(data))
    with pytest.raises(UsageError, match=r"^Phase style: .*rows.jsonl, line 2"):
        row.train_all(FIRST, second)
    assert (row.trained, row.machine.specs, row.machine.running_count) == ([], [], 0)
    row.machine.rows = RowCounts(100, dropped=30, enough_tokens=96)
    data.write_text('{"text": "a"}\n')
    with pytest.raises(UsageError, match=r"^Phase style: .*rows.jsonl: 30 of 100 rows would not be trained on"):
        row.train_all(FIRST, second)
    assert row.trained == []

    row.machine.rows, row.machine.survey_count = None, 0
    row.train_all(FIRST, second)
    assert row.machine.survey_count == 3  # of the second beforehand, and of each when it begins
    row.train_all(FIRST, second)
    assert row.machine.survey_count == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"training": Training(extra_arguments=("--packing", "true"))},
        {"task": Task.GRPO, "generation": Generation(rewards=(Reward("rewards:brief"),))},
    ],
)
def test_arguments_and_functions_of_later_phases_are_tried_before_the_first_starts(
    row: Row, changes: dict[str, Any]
) -> None:
    """On the sample that ships, too: only a survey finds what trl's class or the user's own code says of them."""

    def refuse(request: Request) -> None:
        raise UsageError("there is no training argument --packing")

    row.machine.on_ask = refuse
    with pytest.raises(UsageError, match=r"^Phase style: there is no training argument --packing"):
        row.train_all(FIRST, phase("style", model="facts", **changes))
    assert (row.trained, row.machine.specs) == ([], [])


def test_a_dry_run_has_the_ladders_of_all_phases_by_the_shape_of_the_first_one_s_model(row: Row) -> None:
    options = SearchOptions(is_dry_run=True)
    row.train_all(replace(FIRST, options=options), replace(SECOND, options=options))
    first, second = (told.ladder for told in row.told(LadderBuilt))
    assert [step.strategies for step in first.steps] == [step.strategies for step in second.steps]
    assert f"the ladder is by the shape of {MODEL}" in [told.text for told in row.told(Note)][-1]
    assert not row.all.exists()


def test_a_model_that_is_lost_is_made_anew_and_one_that_is_trained_anew_fits_no_later_phase(row: Row) -> None:
    row.train_all(FIRST, SECOND)
    merged = row.run("1-facts").merged
    model = merged if merged.is_dir() else row.run("1-facts").model
    shutil.rmtree(model)
    row.train_all(FIRST, SECOND)
    assert row.trained.count("2-style") == 1
    assert (model / "config.json").is_file()

    shutil.rmtree(row.run("1-facts").root)
    with pytest.raises(UsageError, match=r"2-style was trained from another model of phase facts, which is not"):
        row.train_all(FIRST, SECOND)
    shutil.rmtree(row.run("2-style").root)
    row.train_all(FIRST, SECOND)
    assert row.trained[-2:] == ["1-facts", "2-style"]


def test_the_folder_of_all_may_be_moved(row: Row) -> None:
    graded = phase(
        "grpo", model="facts", rewarded_by=("style",), task=Task.GRPO, generation=Generation(rewards=(Reward("style"),))
    )
    style = replace(SECOND, request=replace(SECOND.request, task=Task.REWARD))
    row.train_all(FIRST, style, graded)
    row.all = row.all.rename(row.root / "elsewhere")
    row.train_all(FIRST, style, graded)
    assert len(row.trained) == 3
    last = row.run("3-grpo").read_request()
    assert last is not None
    assert [last.model, last.generation.rewards[0].source] == [
        str(next(path for path in (run.merged, run.model) if path.is_dir()).resolve())
        for run in (row.run("1-facts"), row.run("2-style"))
    ]
    with pytest.raises(UsageError, match=r"2-style holds another training \(--model"):
        row.train_all(FIRST, replace(SECOND, starts_from=None, request=replace(SECOND.request, model=str(MODEL))))


def test_what_a_phase_names_beside_other_phases_means_the_same_from_every_folder(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the phase, which knows another one's model, is gone on with."""
    here = row.root / "here"
    here.mkdir()
    (here / "rewards.py").write_text("")
    for name in ("model", "judge"):
        link_model(here / name)
    score(here / "judge")
    monkeypatch.chdir(row.root)
    rewards = (Reward("facts", 0.5), Reward("here/judge"), Reward("here/rewards.py:brief"))
    judging = replace(FIRST, request=replace(FIRST.request, task=Task.REWARD))
    graded = phase(
        "grpo", model="here/model", rewarded_by=("facts",), task=Task.GRPO, generation=Generation(rewards=rewards)
    )
    row.train_all(judging, graded)
    row.train_all(judging, graded)
    assert row.trained == ["1-facts", "2-grpo"]
    (last,) = requests(row, ["2-grpo"])
    assert last.model == str(here / "model")
    sources = [str(row.all / "1-facts/merged"), str(here / "judge"), f"{here}/rewards.py:brief"]
    assert [reward.source for reward in last.generation.rewards][1:] == sources[1:]


def test_a_reward_that_no_phase_trains_must_score_before_the_first_phase_starts(row: Row) -> None:
    causal = row.root / "causal"
    link_model(causal)
    rewards = (Reward("facts"), Reward(str(causal)))
    graded = phase("grpo", rewarded_by=("facts",), task=Task.GRPO, generation=Generation(rewards=rewards))
    judging = replace(FIRST, request=replace(FIRST.request, task=Task.REWARD))
    with pytest.raises(UsageError, match=rf"Phase grpo: --reward {causal} is no reward model"):
        row.train_all(judging, graded)
    assert row.trained == []


def test_json_has_all_phases_and_a_log_says_where_each_begins(row: Row) -> None:
    as_json, as_text = StringIO(), StringIO()
    row.training.interrupted_at = 2
    json_screen, plain_screen = JsonScreen(as_json), PlainScreen(as_text, lambda: 0.0)
    row.screens += [json_screen, plain_screen]
    with pytest.raises(KeyboardInterrupt), json_screen, plain_screen:
        row.train_all(FIRST, SECOND)
    body = json.loads(as_json.getvalue())
    assert body["error"] == "KeyboardInterrupt"
    assert [one["phase"] for one in body["phases"]] == ["facts", "style"]
    assert [one["result"] is not None for one in body["phases"]] == [True, False]
    assert [one["output_dir"] for one in body["phases"]] == [str(row.run(name).root) for name in ("1-facts", "2-style")]
    assert {one["request"]["sequence_length"] for one in body["phases"]} == {64}
    said = as_text.getvalue().splitlines()
    assert "phase    1 of 2, facts · supervised fine-tuning" in said
    assert "phase    2 of 2, style · supervised fine-tuning · on the model of facts" in said
    # the second one's first steps are no fewer than the last of the one before
    assert [line for line in said if "saved step 4" in line][1:] != []
