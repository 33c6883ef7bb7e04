"""A checkpoint without tensors to speak of: the names and the plain values that transformers and DeepSpeed leave."""

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
    write_torch_file(folder / "scheduler.pt")
    for rank in range(ranks):
        write_torch_file(folder / ("rng_state.pth" if ranks == 1 else f"rng_state_{rank}.pth"))
    if zero_stage == 0:
        write_torch_file(folder / "optimizer.pt")
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
    write_safetensors(folder / ("model.safetensors" if lora is None else "adapter_model.safetensors"))
    if lora is not None:
        config = {"r": lora.r, "lora_alpha": lora.alpha, "target_modules": list(lora.target_modules)}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def _write_parts(parts: Path, ranks: int, zero_stage: int, prefix: str) -> None:
    """DeepSpeed's own files."""
    parts.mkdir(exist_ok=True)
    (parts.parent / "latest").write_text(parts.name)
    if zero_stage < 3:
        write_torch_file(parts / "mp_rank_00_model_states.pt")
    for rank in range(ranks):
        write_torch_file(parts / f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        if zero_stage == 3:
            write_torch_file(parts / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")


def write_torch_file(path: Path) -> None:
    """A zip, as torch.save makes them."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))


def write_safetensors(path: Path, *, tensor_bytes: int = 8) -> None:
    """One tensor of so many bytes, all of them nought."""
    tensor = {"dtype": "U8", "shape": [tensor_bytes], "data_offsets": [0, tensor_bytes]}
    header = json.dumps({"weight": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(tensor_bytes))
