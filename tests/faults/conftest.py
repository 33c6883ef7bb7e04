"""What the faults happen to, once for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.bench import ProbeBench
from tests.faults.job import Inputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs.make(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="package")
def probe_bench(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProbeBench]:
    with ProbeBench.started(inputs, tmp_path_factory.mktemp("faults")) as bench:
        yield bench
