"""What is told while a model is loaded: a sign of life of every rank, a line of the first, and not too many."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autofit.domain.codec import decode_union
from autofit.domain.event import ModelLoading, Note, RankEvent
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.probing.protocol import Job
from autofit.worker.rank.lifecycle import Rank
from autofit.worker.training.full_run.loading_progress import LoadingProgress
from tests.builders import make_request, make_rung


@pytest.mark.parametrize("index", [0, 1])
def test_every_two_seconds(index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", str(index))
    path, now_s, beats = tmp_path / "progress.jsonl", [0.0], list[Phase]()
    job = Job(make_request(), Strategy(make_rung(3), 1, 1), "{}", DeviceKind.CPU, 2)
    rank = Rank(job, lambda phase, _: beats.append(phase))
    progress = LoadingProgress(path, rank, clock=lambda: now_s[0])
    for done in range(50):
        now_s[0] = 0.1 * done
        progress(done, 50)
    progress.tell("slow")
    assert beats == [Phase.BUILD, Phase.BUILD]
    told = (
        [decode_union(RankEvent, json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    )
    assert told == ([ModelLoading(20, 50), ModelLoading(40, 50), Note("slow")] if index == 0 else [])
