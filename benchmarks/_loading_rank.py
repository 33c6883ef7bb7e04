"""One rank that loads a model: `_loading_rank.py FOLDER CASE`, started by loading.py. Its last line is a Loaded."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from _loading_case import PLAIN, RANKS, Case, Loaded
from transformers import PreTrainedModel, core_model_loading
from transformers.integrations import HfDeepSpeedConfig

from autofit.domain.codec import to_json
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.request import Request
from autofit.domain.strategy import Rung, Strategy
from autofit.probing.protocol import Job
from autofit.worker.model.loading import load_model
from autofit.worker.rank.lifecycle import end_process, set_threads
from autofit.worker.rank.process_group import join_group
from autofit.worker.training.job_model import pretrained_model

_COLLECTIVES = ("broadcast", "all_gather", "all_gather_into_tensor", "all_reduce", "barrier")
_LOOK_S = 0.002


def main() -> None:
    models, case = Path(sys.argv[1]), Case(*json.loads(sys.argv[2]))
    set_threads(RANKS)
    job = _job(models / case.file_dtype, case)
    join_group(job)
    known = HfDeepSpeedConfig(json.loads(job.deepspeed_config))
    with _collectives() as called, contextlib.nullcontext() if case.way == PLAIN else _on_shared_memory():
        loaded, model = _measured(partial(_load, job, case), called)
    assert model is not None
    assert known is not None
    print(to_json(loaded), flush=True)
    dist.barrier()
    end_process(0)


def _load(job: Job, case: Case) -> PreTrainedModel:
    if case.way != PLAIN:
        return pretrained_model(job, torch.device("cpu"), hear=lambda *_: None, tell=_refuse)
    attention = job.strategy.rung.attention
    model = load_model(job.request.model, dtype=torch.bfloat16, trust_remote_code=False, attention=attention)
    if case.zero_stage < 3:
        for parameter in model.parameters():  # as DeepSpeed does when it begins
            parameter.data = _shared(parameter.data)
    return model


def _refuse(why: str) -> None:
    raise SystemExit(f"not streamed: {why}")


def _job(model: Path, case: Case) -> Job:
    rung = Rung(
        method=Method.FULL,
        zero_stage=case.zero_stage,
        offload=Offload.NONE,
        gradient_checkpointing=GradientCheckpointing.OFF,
        attention=Attention.SDPA,
        dtype=Dtype.BF16,
    )
    batch = {"train_batch_size": RANKS, "train_micro_batch_size_per_gpu": 1}
    config = {**batch, "bf16": {"enabled": True}, "zero_optimization": {"stage": case.zero_stage}}
    return Job(Request(str(model), 64), Strategy(rung, 1, 1), json.dumps(config), DeviceKind.CPU, RANKS)


def _measured(load: Callable[[], PreTrainedModel], called: list[str]) -> tuple[Loaded, PreTrainedModel]:
    began, began_at_s, began_cpu_s = _status(), time.perf_counter(), time.process_time()
    called.clear()
    with _peaks() as most:
        model = load()
    wall_s, cpu_s = time.perf_counter() - began_at_s, time.process_time() - began_cpu_s
    parts: list[Any] = [getattr(one, "ds_tensor", None) for one in model.parameters()]
    own_bytes = sum(part.nbytes for part in parts if part is not None)  # on a CPU the device's memory is the host's
    anonymous_bytes = max(most["RssAnon"] - began["RssAnon"] - own_bytes, 0)
    return Loaded(wall_s, cpu_s, anonymous_bytes, most["RssFile"] - began["RssFile"], len(called)), model


@contextlib.contextmanager
def _collectives() -> Iterator[list[str]]:
    called: list[str] = []
    originals = {name: getattr(dist, name) for name in _COLLECTIVES}

    def noted(name: str, *arguments: Any, **options: Any) -> Any:
        called.append(name)
        return originals[name](*arguments, **options)

    for name in originals:
        setattr(dist, name, partial(noted, name))
    try:
        yield called
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


@contextlib.contextmanager
def _on_shared_memory() -> Iterator[None]:
    """Has what transformers sends to a device lie in shared memory, which the kernel counts apart as it would a
    device's: cast on the host and copied from there, as to a GPU."""
    original = core_model_loading._materialize_copy

    def materialize(tensor: Any, device: Any = None, dtype: torch.dtype | None = None) -> torch.Tensor:
        return _shared(original(tensor, None, dtype))

    core_model_loading._materialize_copy = materialize
    try:
        yield
    finally:
        core_model_loading._materialize_copy = original


def _shared(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format).share_memory_().copy_(tensor)


@contextlib.contextmanager
def _peaks() -> Iterator[dict[str, int]]:
    """The highest of each kind of resident memory, looked at every two milliseconds."""
    most, is_over = _status(), threading.Event()

    def look() -> None:
        while not is_over.wait(_LOOK_S):
            for name, size in _status().items():
                most[name] = max(most[name], size)

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    try:
        yield most
    finally:
        is_over.set()
        watch.join()


def _status() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0][:-1]: int(words[1]) * 1024 for words in lines if words[0] in ("RssAnon:", "RssFile:", "RssShmem:")}


if __name__ == "__main__":
    main()
