"""Two real ranks that save models which ZeRO-3 divides between them; what they find is left beside the models.

python -m tests.worker.saving.two_ranks FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

import deepspeed
import torch
import torch.distributed as dist
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from autofit.worker.rank.failure import KnownFailure
from autofit.worker.saving import model_writer, safetensors_file
from tests.forked_ranks import run_ranks
from tests.models.families import tiny_config
from tests.worker.saving.written import FullDisk, save

RANKS = 2
KINDS = ("gpt2", "mixtral", "hrm_text")
ROOM_BYTES = 200_000
LARGE = LlamaConfig(
    vocab_size=8192, hidden_size=1024, intermediate_size=4096, num_hidden_layers=5, num_attention_heads=8
)


def make(model_type: str) -> PreTrainedModel:
    """The same on every rank."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.bfloat16)


def main(folder: Path) -> int:
    return run_ranks(RANKS, lambda rank: _be_rank(rank, folder))


def _be_rank(rank: int, folder: Path) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1")
    os.environ.update(MASTER_PORT="1", LOCAL_SIZE="1")  # of one: without DeepSpeed's collectives in shared memory
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    deepspeed.init_distributed("gloo", dist_init_required=False)
    for model_type in KINDS:
        _save_both_ways(_divided(make(model_type)), folder / model_type)
    found = {"full": _on_a_full_disk(rank, folder), "grown_bytes": _memory_of_a_save(folder)}
    (folder / f"rank{rank}.json").write_text(json.dumps(found))


def _divided(model: PreTrainedModel) -> PreTrainedModel:
    deepspeed.zero.Init(module=model)
    return model


def _save_both_ways(model: PreTrainedModel, folder: Path) -> None:
    """Where all ranks see one file, and where they do not."""
    save(model, folder / "shared")
    with patch.object(model_writer, "is_one_file", lambda path: False):
        save(model, folder / "apart")


def _on_a_full_disk(rank: int, folder: Path) -> str:
    """What a rank says where the second one has no room for its part."""
    disk = FullDisk(ROOM_BYTES) if rank == 1 else os
    with patch.object(safetensors_file, "os", disk):
        try:
            save(_divided(make("gpt2")), folder / "full")
        except KnownFailure as failure:
            return str(failure)
    return ""


def _memory_of_a_save(folder: Path) -> int:
    """By how much this rank's own memory grows at most while 180 MB are written."""
    model = _divided(AutoModelForCausalLM.from_config(LARGE, dtype=torch.bfloat16))
    save(_divided(make("gpt2")), folder / "warm")
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): sets the peak to what is held
    began_bytes = _own_bytes("VmRSS")
    save(model, folder / "large")
    return _own_bytes("VmHWM") - began_bytes


def _own_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return 1024 * (sizes[field] - sizes["RssFile"] - sizes["RssShmem"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
