"""One rig for all tests here: two hosts, each of them with an sshd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.multinode.rig import DEADLINE_S, Rig, missing, until


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    if (why := missing()) is not None:
        pytest.skip(why)
    with Rig(tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.fixture(autouse=True)
def both_hosts(rig: Rig) -> Iterator[None]:
    """In the hostfile before each test; with nothing running on them soon after it."""
    rig.write_hostfile(*(host.address for host in rig.hosts))
    yield
    until(lambda: not any(host.processes() for host in rig.hosts), timeout_s=DEADLINE_S, what="both hosts to be free")
