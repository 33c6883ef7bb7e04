"""Where in the story a model is downloaded: no real download, and no hub."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from autofit.app import context, model_download
from autofit.app.model_download import SharedScreen
from autofit.domain.errors import UsageError
from autofit.domain.event import Chosen, DataRead, DownloadProgress, DownloadStarted, Event, TrainingStarted
from autofit.domain.request import SearchOptions
from autofit.inputs.download import Download
from autofit.inputs.found_model import ModelFiles
from autofit.inputs.model_files import read_model_files
from autofit.inputs.repository import HubFile
from tests.app.test_train import MODEL, Stage, untouchable
from tests.builders import GB

MISSING = Download("meta-llama/Llama-2-13b-hf", "c0ffee", (), (HubFile("model.safetensors", 26 * GB),))


@dataclass
class FakeDownload:
    """Notes when it is waited for among the events of the stage; `refusal` is what the hub says then."""

    stage: Stage
    small_refusal: UsageError | None = None
    refusal: UsageError | None = None
    asked_for: list[Download] = field(default_factory=list)
    is_running: bool = False

    @contextmanager
    def start(self, download: Download, *, log_path: Path, show: Any) -> Iterator[FakeDownload]:
        self.asked_for.append(download)
        assert log_path == self.stage.folder.logs / "download.log"
        show(DownloadStarted(download.model, download.commit, download.size_bytes))
        self.is_running = True
        try:
            yield self
        finally:
            self.is_running = False

    def wait_for_small_files(self) -> None:
        self._wait("small files", self.small_refusal)

    def wait(self) -> None:
        self._wait("weights", self.refusal)

    def _wait(self, what: str, refusal: UsageError | None) -> None:
        assert self.is_running
        self.stage.events.append(what)  # type: ignore[arg-type]
        if refusal is not None:
            raise refusal


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def download(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> FakeDownload:
    """The stage's model lacks its weights here; the disk has room for them."""

    def read(model: str) -> ModelFiles:
        assert model == str(MODEL)
        return replace(read_model_files(model), download=MISSING)

    monkeypatch.setattr(context, "read_model_files", read)
    monkeypatch.setattr(model_download, "disk_free_bytes", lambda path: 100 * GB)
    fake = FakeDownload(stage)
    stage.tools = {"start_download": fake.start}
    return fake


def order(stage: Stage, *wanted: Any) -> list[Any]:
    """The ones of these that were heard, in their order: kinds of events, and what was waited for."""
    heard = [event if isinstance(event, str) else type(event) for event in stage.events]
    return [one for one in heard if one in wanted]


def test_weights_come_beside_the_search_and_before_the_training(stage: Stage, download: FakeDownload) -> None:
    running: list[bool] = []
    stage.machine.on_ask = lambda asked: running.append(download.is_running)
    run = stage.training.run
    stage.training.run = lambda *a, **k: running.append(not download.is_running) or run(*a, **k)  # type: ignore[method-assign, func-returns-value]
    stage.train()
    story = (DownloadStarted, "small files", DataRead, Chosen, "weights", TrainingStarted)
    assert order(stage, *story) == list(story)
    assert all(running)
    assert len(running) > 3
    assert download.asked_for == [MISSING]


def test_a_hub_that_gives_nothing_ends_it_before_anything_is_started(stage: Stage, download: FakeDownload) -> None:
    download.small_refusal = UsageError("the hub is gone")
    stage.machine.start_agent = untouchable  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="the hub is gone"):
        stage.train()
    assert not download.is_running


def test_a_disk_without_room_ends_it_before_anything_is_started(
    stage: Stage, download: FakeDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_download, "disk_free_bytes", lambda path: 10 * GB)
    stage.machine.start_agent = untouchable  # type: ignore[method-assign]
    with pytest.raises(UsageError, match=r"26.0 GB of .* must be downloaded to .*, where 10.0 GB are free"):
        stage.train()
    assert download.asked_for == []


def test_weights_that_would_run_more_are_not_trained_on(
    stage: Stage, download: FakeDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: str) -> None:
        raise UsageError(f"{model} may be an attack")

    monkeypatch.setattr(model_download, "check_cached", refuse)
    with pytest.raises(UsageError, match=f"{MISSING.model} may be an attack"):
        stage.train()
    assert order(stage, "weights", TrainingStarted) == ["weights"]


def test_a_download_that_stopped_is_gone_on_with_from_the_choice(stage: Stage, download: FakeDownload) -> None:
    download.refusal = UsageError("stopped: the same command goes on from there")
    with pytest.raises(UsageError, match="goes on from there"):
        stage.train()
    assert stage.folder.read_choice() is not None
    assert stage.training.started_with == []
    download.refusal = None
    stage.machine.start_agent = untouchable  # type: ignore[method-assign]
    stage.train()
    assert order(stage, "small files", "weights", TrainingStarted) == ["small files", "weights", TrainingStarted]
    assert stage.folder.read_result() is not None


def test_what_interrupts_the_search_ends_the_download(stage: Stage, download: FakeDownload) -> None:
    stage.interrupt_at_probe(1)
    with pytest.raises(KeyboardInterrupt):
        stage.train()
    assert not download.is_running


def test_nothing_is_downloaded_for_a_dry_run_or_a_finished_one(stage: Stage, download: FakeDownload) -> None:
    stage.train(options=SearchOptions(is_dry_run=True))
    assert download.asked_for == []
    stage.train()
    stage.train()
    assert len(download.asked_for) == 1


def test_a_screen_hears_one_event_at_a_time() -> None:
    class Slow:
        """Has an event overtaken where another may come in between."""

        def __init__(self) -> None:
            self.inside = 0
            self.most = 0

        def show(self, event: Event) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            threading.Event().wait(0.01)
            self.inside -= 1

    slow = Slow()
    screen = SharedScreen(slow)
    threads = [threading.Thread(target=screen.show, args=(DownloadProgress(1, 2),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert slow.most == 1
