"""What it takes to save a model: in a stream, and as accelerate and transformers do it.

python benchmarks/saving.py [--layers 12] [--date 2026-11-26]

Prints one JSON object. Two real ranks on CPUs hold a Llama in bf16 (1.5 GB at 12 layers), each all of it as below
ZeRO-3, or divided by ZeRO-3's engine, and save it in both ways. `grown_bytes` is by how much a rank's own memory
(anonymous; file pages belong to nobody) grows at most meanwhile. One minute, nothing to download.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _machine import add_date, header

_RANKS = 2
_WAYS = ("as transformers does", "streamed")
_CONFIG = {
    "train_micro_batch_size_per_gpu": 1,
    "bf16": {"enabled": True},
    "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12, help="of the model; 0.1 GB each")
    add_date(parser)
    options = parser.parse_args()
    body = header("saving", options.date) | {"rank_count": _RANKS}
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed prints what it builds
    import autofit.worker.training.trainer  # noqa: F401  # once, for all ranks

    cases = {
        name: _case(options.layers, is_divided) for name, is_divided in (("below ZeRO-3", False), ("ZeRO-3", True))
    }
    print(json.dumps(body | {"cases": cases}, indent=2), file=answer)


def _case(layer_count: int, is_divided: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        ranks = [_fork(lambda rank=rank: _be_rank(rank, folder, layer_count, is_divided)) for rank in range(_RANKS)]
        if any(os.waitpid(pid, 0)[1] for pid in ranks):
            raise SystemExit("a rank failed; it told why above")
        return {way: _figures(folder, way) for way in _WAYS}


def _figures(folder: Path, way: str) -> dict[str, object]:
    ranks = [json.loads((folder / f"{way}-{rank}.json").read_text()) for rank in range(_RANKS)]
    return {
        "written_bytes": ranks[0]["written_bytes"],
        "wall_s": max(one["wall_s"] for one in ranks),
        "grown_bytes": [one["grown_bytes"] for one in ranks],
    }


def _fork(body: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        body()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _be_rank(rank: int, folder: Path, layer_count: int, is_divided: bool) -> None:
    import deepspeed
    import torch
    import torch.distributed as dist

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(_RANKS), LOCAL_SIZE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), _RANKS)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=_RANKS)
    deepspeed.init_distributed("gloo", dist_init_required=False)
    model = _model(layer_count)
    engine = deepspeed.initialize(model=model, config=_CONFIG)[0] if is_divided else None
    place = folder / "model"
    for way in _WAYS:
        dist.barrier()
        figures = _measured(lambda way=way: _save(way, model, engine, place))
        dist.barrier()
        figures["written_bytes"] = sum(path.stat().st_size for path in place.glob("*.safetensors"))
        (folder / f"{way}-{rank}.json").write_text(json.dumps(figures))
        dist.barrier()
        if rank == 0:
            shutil.rmtree(place)


def _model(layer_count: int) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        hidden_size=2048, intermediate_size=5504, num_hidden_layers=layer_count, num_attention_heads=16
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model.to_empty(device="cpu").apply(_fill)


def _fill(module: Any) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data.fill_(0.5)  # pages that nobody has touched would not count


def _save(way: str, model: Any, engine: Any, place: Path) -> None:
    """All ranks; the first way is that of transformers' Trainer.save_model."""
    if way == "streamed":
        from autofit.worker.saving.model_writer import write_model

        write_model(model, place, lambda folder: model.save_pretrained(folder, state_dict={}), beat=lambda: None)
        return
    from deepspeed.checkpoint.utils import clone_tensors_for_torch_save

    if engine is not None:
        state = engine._zero3_consolidated_16bit_state_dict()
    else:
        state = clone_tensors_for_torch_save(model.state_dict())
    if os.environ["RANK"] == "0":
        model.save_pretrained(place, state_dict=state)


def _measured(action: Callable[[], None]) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): sets the peak to what is held
    held_bytes, began_s = _own_bytes("VmRSS"), time.monotonic()
    action()
    wall_s = time.monotonic() - began_s
    return {"wall_s": round(wall_s, 2), "grown_bytes": max(0, _own_bytes("VmHWM") - held_bytes)}


def _own_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return 1024 * (sizes[field] - sizes["RssFile"] - sizes["RssShmem"])


if __name__ == "__main__":
    main()
