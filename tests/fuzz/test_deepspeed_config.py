"""The DeepSpeed config that a line of `deepspeed` names."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autofit.app.script.tunable_line import NotTuned, read_tunable_line
from autofit.cli.flags.launch_line import parse_launch
from autofit.domain.deepspeed_line import Override
from autofit.planning.script.config_rewriter import as_it_is
from autofit.planning.script.training_length import said_length, training_length
from autofit.planning.script.tunable_knobs import tunable_knobs

from .junk import changed, clean, damaged, json_bytes

CONFIG = {
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1,
    "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": "auto"},
    "bf16": {"enabled": True}, "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 10}},
    "tensorboard": {"enabled": True}, "autotuning": {"enabled": False},
}  # fmt: skip


@given(st.one_of(changed(CONFIG).map(json_bytes), damaged(json_bytes(CONFIG))))
def test_a_config_of_odd_values(tmp_path: Path, content: bytes) -> None:
    script, path = tmp_path / "train.py", tmp_path / "ds.json"
    script.touch()
    path.write_bytes(content)
    line, settings = parse_launch(["--num_gpus", "2", str(script), "--deepspeed", str(path)])
    with contextlib.suppress(NotTuned):
        clean(lambda: _looked_at(read_tunable_line(line, settings)))


def _looked_at(tunable: Any) -> None:
    config, arguments = tunable.config, tunable.line.arguments
    tunable_knobs(config, arguments, frozenset())
    tunable_knobs(config, arguments, frozenset(Override))
    training_length(said_length(arguments, {}, ""), config)
    as_it_is(config, arguments, "copy.json")
