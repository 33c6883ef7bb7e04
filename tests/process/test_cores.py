"""Each rank has cores of its own, on the side of the machine where its GPU is."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.process.cores import Core, cores_of_rank, pci_numa_node, read_cores

TWO_SOCKETS = tuple(Core(node, (node * 8 + index, 16 + node * 8 + index)) for node in (0, 1) for index in range(8))


def shares(device_nodes: list[int | None], cores: tuple[Core, ...] = TWO_SOCKETS) -> list[tuple[Core, ...]]:
    found = [cores_of_rank(rank, device_nodes, cores) for rank in range(len(device_nodes))]
    given = [core for share in found for core in share]
    assert len(given) == len(set(given))
    return found


@pytest.mark.parametrize("nodes", [[0, 0, 0, 0, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0, 1, 0], [0, 0, 1]])
def test_on_two_sockets_a_rank_stays_on_its_gpus(nodes: list[int | None]) -> None:
    for node, share in zip(nodes, shares(nodes), strict=True):
        assert len(share) == 8 // nodes.count(node)
        assert {core.numa_node for core in share} == {node}


@pytest.mark.parametrize("nodes", [[None] * 8, [0, 0, 0, None, 1, 1, 1, 1], [2] * 8])
def test_where_a_gpus_place_is_not_known_all_get_as_many(nodes: list[int | None]) -> None:
    assert [len(share) for share in shares(nodes)] == [2] * 8


def test_too_few_cores_beside_the_gpus_are_shared_out_of_all() -> None:
    scarce = tuple(core for core in TWO_SOCKETS if core.numa_node == 1 or core.threads[0] < 2)
    assert [len(share) for share in shares([0, 0, 0, 1], scarce)] == [2, 2, 2, 2]


def test_with_fewer_cores_than_ranks_nobody_has_one() -> None:
    assert shares([0, 0], TWO_SOCKETS[:1]) == [(), ()]


def test_what_linux_tells_is_read(tmp_path: Path) -> None:
    """Hardware threads of one core stay together, and those that a container may not use are left out."""
    for node, numbers in ((0, "0-1,4-5"), (1, "2-3,6-7")):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{numbers}\n")
    for thread in range(8):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{thread}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{thread % 4},{thread % 4 + 4}\n")
    assert read_cores(range(8), tmp_path) == (Core(0, (0, 4)), Core(0, (1, 5)), Core(1, (2, 6)), Core(1, (3, 7)))
    assert read_cores({1, 2, 6}, tmp_path) == (Core(0, (1,)), Core(1, (2, 6)))


def test_where_linux_tells_nothing_each_thread_is_a_core(tmp_path: Path) -> None:
    assert read_cores({0, 3}, tmp_path) == (Core(0, (0,)), Core(0, (3,)))


def test_the_place_of_a_gpu(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:17:00.0"
    folder.mkdir(parents=True)
    for told, node in (("1\n", 1), ("-1\n", None)):
        (folder / "numa_node").write_text(told)
        assert pci_numa_node("0000:17:00.0", tmp_path) == node
    assert pci_numa_node("0000:99:00.0", tmp_path) is None


def test_this_machines_cores_are_those_that_this_process_may_use() -> None:
    threads = [thread for core in read_cores() for thread in core.threads]
    assert len(threads) == len(set(threads)) > 0
