"""What is remembered is found again, by whoever asks for the same."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.estimate import Constants
from autofit.domain.outcome import Measured
from autofit.store import Store
from autofit.store.machine_kind import DeviceKey
from autofit.store.pruning import Counts
from tests.report import simulated
from tests.store.samples import KEY, STEP, TRIALS, VERSIONS, trace

DAY_S = 86400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "autofit.sqlite"


def test_traces_are_found_in_the_order_that_is_asked_for(path: Path) -> None:
    steps = [replace(STEP, micro_batch=rows) for rows in (4, 3, 1)]
    with Store(path) as store:
        store.put_traces("model", [trace(1), trace(2), trace(4)])
    with Store(path) as store:
        assert store.get_traces("model", steps) == (trace(4), trace(1))
        assert store.get_traces("another model", steps) == ()
        assert store.trouble is None


def test_a_trace_is_replaced(path: Path) -> None:
    with Store(path) as store:
        store.put_traces("model", [trace(1, moment_count=2)])
        store.put_traces("model", [trace(1, moment_count=3)])
        assert [len(one.moments) for one in store.get_traces("model", [STEP])] == [3]


def test_trials_are_recalled_as_they_were(path: Path) -> None:
    with Store(path) as store:
        for trial in TRIALS:
            store.remember(trial, KEY)
    with Store(path) as store:
        assert store.recall(KEY) == TRIALS
        assert [one.trial for one in store.remembered()] == list(TRIALS)


def test_the_latest_trial_of_a_strategy_counts_and_a_rehearsal_is_another(path: Path) -> None:
    earlier = next(trial for trial in TRIALS if isinstance(trial.outcome, Measured))
    later = replace(earlier, outcome=replace(earlier.outcome, tokens_per_s=1.0))
    rehearsed = replace(earlier, is_rehearsal=True)
    with Store(path) as store:
        for trial in (earlier, rehearsed, later):
            store.remember(trial, KEY)
        assert set(store.recall(KEY)) == {later, rehearsed}


def test_an_out_of_memory_is_not_recalled_where_there_is_clearly_more(path: Path) -> None:
    failed, more = simulated.trial("zero1", 1, simulated.out_of_memory(79, 2)), round(KEY.device_memory_bytes * 1.1)
    with Store(path) as store:
        store.remember(failed, KEY)
        assert store.recall(replace(KEY, device_memory_bytes=KEY.device_memory_bytes - 10**9)) == (failed,)
        assert store.recall(replace(KEY, device_memory_bytes=round(KEY.device_memory_bytes * 1.02))) == (failed,)
        assert store.recall(replace(KEY, device_memory_bytes=more)) == ()


def test_what_is_not_true_any_more_is_forgotten(path: Path) -> None:
    other = replace(KEY, global_batch=64)
    with Store(path) as store:
        store.remember(TRIALS[0], KEY)
        store.remember(TRIALS[0], other)
        store.forget(KEY)
        assert store.recall(KEY) == ()
        assert store.recall(other) == TRIALS[:1]


def test_constants_belong_to_a_kind_of_device_and_versions(path: Path) -> None:
    fitted = Constants(1, 2, 1.02, 0.61, 0.8, fitted_from=7)
    device = DeviceKey.of(simulated.DEVICES[0], VERSIONS)
    with Store(path) as store:
        store.put_constants(device, fitted)
        assert store.get_constants(DeviceKey.of(simulated.DEVICES[5], VERSIONS)) == fitted
        assert store.get_constants(replace(device, name="another")) is None
        assert store.get_constants(replace(device, versions=replace(VERSIONS, torch="2.14"))) is None


def test_a_row_of_another_build_counts_as_missing(path: Path) -> None:
    with Store(path) as store:
        store.remember(TRIALS[0], KEY)
        store.put_traces("model", [trace(1)])
    with sqlite3.connect(path) as file:
        file.execute("UPDATE trial SET body = x'00'")
        file.execute("UPDATE trace SET body = (SELECT facts FROM trial)")
    file.close()
    with Store(path) as store:
        assert store.recall(KEY) == ()
        assert store.remembered() == ()
        assert store.get_traces("model", [STEP]) == ()
        assert store.trouble is None


def test_what_is_old_is_pruned(path: Path) -> None:
    with Store(path, clock=lambda: 0.0) as store:
        store.remember(TRIALS[0], KEY)
        store.put_traces("model", [trace(1)])
    with Store(path, clock=lambda: 40 * DAY_S) as store:
        store.remember(TRIALS[1], KEY)
        assert store.prune(older_than_s=30 * DAY_S) == Counts(1, 1, 0)
        assert store.recall(KEY) == (TRIALS[1],)
        assert store.counts() == Counts(1, 0, 0)


def test_the_trials_of_one_model_are_pruned(path: Path) -> None:
    other = replace(KEY, shape=replace(KEY.shape, name="other", layer_count=2))
    with Store(path) as store:
        store.remember(TRIALS[0], KEY)
        store.remember(TRIALS[0], other)
        assert store.prune(model="other") == Counts(1, 0, 0)
        assert [entry.model for entry in store.entries()] == [KEY.shape.name]
