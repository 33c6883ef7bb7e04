"""A checkpoint without tensors: the names and the plain values that transformers and DeepSpeed leave."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

from autofit.domain.request import Lora


def write_checkpoint(
    folder: Path,
    *,
    ranks: int = 2,
    zero_stage: int = 2,
    dtype: str = "bf16",
    sequence_length: int = 64,
    global_batch: int = 8,
    seed: int = 42,
    learning_rate: float = 2e-5,
    lora: Lora | None = None,
) -> Path:
    """Of a training with these settings, whose step stands in the name of `folder`; the folder."""
    step = int(folder.name.rpartition("-")[2])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scheduler.pt").touch()
    for rank in range(ranks):
        (folder / ("rng_state.pth" if ranks == 1 else f"rng_state_{rank}.pth")).touch()
    if zero_stage == 0:
        (folder / "optimizer.pt").touch()
    else:
        _write_parts(folder / f"global_step{step}", ranks, zero_stage, "bf16_" if dtype == "bf16" else "")
    arguments = {
        "per_device_train_batch_size": 1,
        "learning_rate": learning_rate,
        "gradient_accumulation_steps": global_batch // ranks,
        "bf16": dtype == "bf16",
        "fp16": dtype == "fp16",
        "seed": seed,
        "deepspeed": {"bf16": {"enabled": True}, "gradient_accumulation_steps": 99} if zero_stage else None,
        "max_length": sequence_length,
        **({"zero_stage": zero_stage} if zero_stage else {}),
    }
    with zipfile.ZipFile(folder / "training_args.bin", "w") as archive:
        archive.writestr("training_args/data.pkl", pickle.dumps(arguments, protocol=2))
    if lora is not None:
        config = {"r": lora.r, "lora_alpha": lora.alpha, "target_modules": list(lora.target_modules)}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def _write_parts(parts: Path, ranks: int, zero_stage: int, prefix: str) -> None:
    """DeepSpeed's own files."""
    parts.mkdir(exist_ok=True)
    (parts.parent / "latest").write_text(parts.name)
    for rank in range(ranks):
        (parts / f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
        if zero_stage == 3:
            (parts / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt").touch()
