"""The files that are written in place are safetensors' own."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autofit.worker.saving import safetensors_file
from autofit.worker.saving.safetensors_file import Layout, write_elements

TENSORS = {
    "wide": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.tensor([[1.5, -0.0], [float("nan"), 3e38]], dtype=torch.bfloat16),
    "a": torch.ones(3, dtype=torch.bfloat16),
    "one": torch.tensor(7),
    "none": torch.empty((0, 4), dtype=torch.bfloat16),
    "mask": torch.tensor([True, False, True]),
}


@pytest.mark.parametrize("piece_bytes", [8, 2**26])
def test_a_file_written_tensor_by_tensor_is_the_one_that_safetensors_writes(
    piece_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order and in pieces, each at its place."""
    monkeypatch.setattr(safetensors_file, "PIECE_BYTES", piece_bytes)
    layout = Layout({name: tensor.to("meta") for name, tensor in TENSORS.items()})
    layout.create(tmp_path / "ours")
    descriptor = os.open(tmp_path / "ours", os.O_WRONLY)
    for name in reversed(TENSORS):
        elements = TENSORS[name].reshape(-1)
        middle = elements.numel() // 2
        at_bytes = layout.places_bytes[name] + middle * elements.element_size()
        write_elements(descriptor, elements[middle:], at_bytes, elements.dtype)
        write_elements(descriptor, elements[:middle], layout.places_bytes[name], elements.dtype)
    os.close(descriptor)
    save_file(TENSORS, tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert layout.size_bytes == (tmp_path / "ours").stat().st_size


def test_the_host_holds_one_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one only when the last has gone."""
    pieces: list[weakref.ref[torch.UntypedStorage]] = []
    alive_counts = []

    def to_host(tensor: torch.Tensor) -> torch.Tensor:
        copied = tensor.clone()
        pieces.append(weakref.ref(copied.untyped_storage()))
        alive_counts.append(sum(piece() is not None for piece in pieces))
        return copied

    monkeypatch.setattr(safetensors_file, "PIECE_BYTES", 64)
    monkeypatch.setattr(torch.Tensor, "cpu", to_host)
    with (tmp_path / "file").open("wb") as file:
        write_elements(file.fileno(), torch.arange(100, dtype=torch.float32), 0, torch.float32)
    assert (tmp_path / "file").read_bytes() == torch.arange(100, dtype=torch.float32).numpy().tobytes()
    assert alive_counts == [1] * 7
