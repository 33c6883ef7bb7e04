"""A rank's place among the others: the process group of a job, DeepSpeed's use of it, and what both leave in memory."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.distributed import distributed_c10d

from autofit.domain.hardware import DeviceKind
from autofit.probing.protocol import Job
from autofit.worker.rank.loopback import is_on_one_node, keep_to_loopback, loopback_store

GROUP_TIMEOUT = timedelta(hours=1)
"""The longest that a collective waits: one rank may tokenize or save meanwhile, and long before this the watch over
heartbeats decides. NCCL's own 10 minutes would abort a rank that waits for another."""


def join_group(job: Job, store_path: Path | None = None) -> None:
    """Joins the process group, before anything asks for the number of ranks: ZeRO-3 divides a model while it is built.

    Over the file `store_path`, or over the launcher's address where there is none. A rehearsal has nobody to meet.
    """
    backend = "nccl" if job.kind is DeviceKind.CUDA else "gloo"
    if job.is_rehearsal:
        from autofit.worker.rank import fake_process_group  # and what torch's tests import

        fake_process_group.join(job.rank_count)
    else:
        _join_ranks(backend, job.rank_count, store_path)
    if job.deepspeed_config is not None:
        _join_deepspeed(backend)


def _join_ranks(backend: str, rank_count: int, store_path: Path | None) -> None:
    _set_group_timeout()
    group: dict[str, Any] = {}
    if is_on_one_node(rank_count):
        keep_to_loopback()
    if store_path is not None:
        group["store"] = torch.distributed.FileStore(str(store_path), rank_count)  # type: ignore[attr-defined]
        group["store"].set_timeout(GROUP_TIMEOUT)
    elif is_on_one_node(rank_count):
        group["store"] = loopback_store(rank_count, GROUP_TIMEOUT)
    if group:
        group |= {"rank": int(os.environ["RANK"]), "world_size": rank_count}
    torch.distributed.init_process_group(backend, timeout=GROUP_TIMEOUT, **group)


def _set_group_timeout() -> None:
    """Sets the timeout of every group that is made without one of its own, DeepSpeed's and accelerate's among them.

    torch gives such a group its defaults and not the first group's timeout (_new_group_with_tag and split_group in
    torch/distributed/distributed_c10d.py).
    """
    distributed_c10d.default_pg_timeout = GROUP_TIMEOUT
    distributed_c10d.default_pg_nccl_timeout = GROUP_TIMEOUT  # type: ignore[attr-defined]


def _join_deepspeed(backend: str) -> None:
    """Has DeepSpeed take the group that is there for its own."""
    import deepspeed

    deepspeed.init_distributed(backend, timeout=GROUP_TIMEOUT)
    unlink_shared_memory()


def unlink_shared_memory() -> None:
    """Removes this rank's name in /dev/shm once every rank has mapped it; DeepSpeed itself would leave it for ever."""
    torch.distributed.barrier()
    name = "deepspeed_allreduce_buffer_{}_{}_{}_{}".format(
        os.getuid(), os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"], os.environ["LOCAL_RANK"]
    )
    Path("/dev/shm", name).unlink(missing_ok=True)
