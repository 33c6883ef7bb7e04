"""Every lean optimizer, on the device and on the host, and every quantised base, on two real ranks: it learns, saves
what it trained, and goes on to the same end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import Quantization
from tests.spread import with_matrix
from tests.training.runs import Case, Runs, training

pytestmark = pytest.mark.slow

BF16 = Dtype.BF16


@pytest.mark.parametrize(
    ("case", "learning_rate"),
    with_matrix(
        [
            (Case(stage=2, dtype=BF16, micro_batch=4, optimizer=Optimizer.ADAMW_8BIT_BF16), 1e-3),
            (Case(stage=3, optimizer=Optimizer.ADAMW_8BIT), 1e-3),
        ],
        [
            (Case(stage=3, dtype=BF16, optimizer=Optimizer.ADAMW_8BIT_BF16), 1e-3),
            (Case(stage=3, dtype=BF16, optimizer=Optimizer.ADAMW_4BIT_BF16), 1e-3),
            (Case(Method.LORA, 1, dtype=BF16, optimizer=Optimizer.ADAMW_4BIT_BF16), 1e-2),
            (Case(stage=0, optimizer=Optimizer.ADAMW_8BIT), 1e-3),
            (Case(Method.LORA, 2, dtype=BF16, optimizer=Optimizer.ADAMW_8BIT), 1e-2),
            (Case(stage=0, dtype=BF16, optimizer=Optimizer.LION), 1e-4),
            (Case(stage=2, micro_batch=4, optimizer=Optimizer.LION), 1e-4),
            (Case(stage=1, optimizer=Optimizer.SGD), 0.3),
            (Case(Method.LORA, 3, dtype=BF16, optimizer=Optimizer.SGD), 3.0),
            (Case(stage=2, offload=Offload.OPTIMIZER, optimizer=Optimizer.ADAMW_8BIT), 1e-3),
            (Case(stage=3, offload=Offload.ALL, dtype=BF16, optimizer=Optimizer.ADAMW_8BIT), 1e-3),
            (Case(stage=3, offload=Offload.OPTIMIZER, dtype=BF16, optimizer=Optimizer.LION), 1e-4),
            (Case(stage=1, offload=Offload.OPTIMIZER, dtype=BF16, optimizer=Optimizer.SGD), 0.3),
            (Case(Method.LORA, 3, offload=Offload.ALL, dtype=BF16, optimizer=Optimizer.ADAMW_8BIT), 1e-2),
            (Case(Method.LORA, 0, dtype=BF16, quantization=Quantization.NF4), 1e-2),
            (Case(Method.LORA, 2, dtype=BF16, quantization=Quantization.NF4), 1e-2),
            (Case(Method.LORA, 3, dtype=BF16, quantization=Quantization.INT8), 1e-2),
            (Case(Method.LORA, 1, dtype=BF16, quantization=Quantization.INT8), 1e-2),
        ],
    ),
    ids=str,
)
def test_it_learns_saves_and_goes_on_to_the_same_end(
    case: Case, learning_rate: float, model: Path, rows: Callable[[int], Path], runs: Runs
) -> None:
    request = training(model, rows(48), learning_rate=learning_rate, save_steps=2)
    whole = runs.autofit(case, request)
    assert whole.codes == [0, 0], whole.log[-3000:]
    losses = [step["loss"] for step in whole.steps]
    assert len(losses) == 6
    assert losses[-1] < losses[0], losses
    trained = _weights(whole.model)
    assert any(not torch.equal(tensor, torch.zeros_like(tensor)) for tensor in trained.values())

    for later in ("checkpoint-4", "checkpoint-6"):
        shutil.rmtree(whole.folder / "checkpoints" / later)
    resumed = runs.autofit(case, request, whole.folder)
    assert resumed.codes == [0, 0], resumed.log[-3000:]
    assert [step["loss"] for step in resumed.steps] == losses, "its states are those that were saved"
    again = _weights(resumed.model)
    assert all(torch.equal(again[name], tensor) for name, tensor in trained.items())


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)
