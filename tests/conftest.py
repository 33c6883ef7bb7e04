"""What every test needs, and which cases of the large tables are run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.spread import COUNT, drawn

if TYPE_CHECKING:
    from autofit.probing.agent import Agent

# Tests send them to processes that they start. Whoever started the suite may have left them ignored, as `nohup … &`
# does with the first two, and that is inherited.
SIGNALS = (
    *(signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT),
    *(signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tests marked matrix, left out by default")
    group.addoption("--all", action="store_true", help="with all of them: half an hour more")
    group.addoption("--spread", metavar="SEED", help=f"with {COUNT} of them, other ones for another SEED")


def pytest_configure(config: pytest.Config) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    names = [item.nodeid for item in items if item.get_closest_marker("matrix")]
    seed = config.getoption("--spread")
    left_out = set(names) - (set() if seed is None else drawn(names, seed))
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered stays among the tests: in a file of their own, for child processes too."""
    os.environ["AUTOFIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One real agent on CPUs for all tests that only probe: its imports take longer than a probe."""
    from autofit.domain.hardware import DeviceKind
    from autofit.probing.agent import Agent

    with Agent(kind=DeviceKind.CPU, log_path=tmp_path_factory.mktemp("agent") / "agent.log") as started:
        yield started


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A command line that is run in this process heeds signals in its own way; afterwards they are ours again."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
