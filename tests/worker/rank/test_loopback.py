"""Ranks of one node meet where nobody else can come."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import psutil
import pytest

from autofit.process.rendezvous import free_port
from autofit.worker.rank import loopback
from autofit.worker.rank.loopback import is_on_one_node, keep_to_loopback, loopback_store
from tests.forked_ranks import run_ranks


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str | None]]:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return lambda: [os.environ.get(name) for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")]


def test_groups_listen_on_the_loopback_interface_unless_the_user_names_one(
    interfaces: Callable[[], list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    keep_to_loopback()
    assert interfaces() == ["lo", "eth7"]


def test_a_container_without_one_is_left_alone(
    interfaces: Callable[[], list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopback.psutil, "net_if_addrs", lambda: {"eth0": [SimpleNamespace(address="10.0.0.1")]})
    keep_to_loopback()
    assert interfaces() == [None, None]


@pytest.mark.parametrize(("local_size", "is_one"), [("2", True), ("1", False), (None, False)])
def test_it_is_one_node_where_the_launcher_says_so(
    monkeypatch: pytest.MonkeyPatch, local_size: str | None, is_one: bool
) -> None:
    monkeypatch.delenv("LOCAL_SIZE", raising=False)
    if local_size is not None:
        monkeypatch.setenv("LOCAL_SIZE", local_size)
    assert is_on_one_node(2) is is_one


def test_two_ranks_find_each_other_and_listen_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.setenv("MASTER_ADDR", "203.0.113.1")  # of nobody: on one node it is not asked

    def meet(rank: int) -> None:
        os.environ["RANK"] = str(rank)
        store = loopback_store(2, timedelta(seconds=60))
        store.set(f"seen by {rank}", "yes")
        assert store.get(f"seen by {1 - rank}") == b"yes"
        ours = psutil.Process().net_connections("inet")
        assert [one.laddr.ip for one in ours if one.status == psutil.CONN_LISTEN] == ["127.0.0.1"][rank:]
        store.set(f"done by {rank}", "yes")
        store.get(f"done by {1 - rank}")

    assert run_ranks(2, meet) == 0


def test_a_port_that_is_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(OSError, match="in use"):
            loopback_store(1, timedelta(seconds=60))
