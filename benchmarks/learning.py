"""What a training learns by each optimizer: the loss after as many steps, beside AdamW's with fp32 states.

python benchmarks/learning.py [--steps 60] [--only NAME] [--table] [--date 2026-11-26]

Prints one JSON object, or a table with --table. A Llama of 0.7 M parameters begins each time at the same random weights
and trains, by autofit's own trainer on one CPU rank, on the dialogues of examples/ with 8 rows a step; ZeRO-2, and
ZeRO-3 for LOMO and AdaLomo. AdamW's kinds take a small learning rate, at which weights in bf16 stand still that are
rounded to nearest, and a large one; the others take their own default and a larger one. `progress` is by how much the
loss of rows that are not trained on fell; AdamW with another order of the rows tells what of a difference is chance.
Five minutes on two idle cores, nothing to download.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from _machine import add_date, header
from _memory_truth import Forker

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import LEARNING_RATES, Optimizer
from autofit.domain.request import Request, Training
from autofit.domain.strategy import Rung, Strategy
from autofit.inputs.model_files import read_model_files
from autofit.planning.export.deepspeed_config import engine_config
from autofit.probing.protocol import Job

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ROWS, TOKENS = 8, 96
ADAMW_RATES = (2e-5, 1e-3)
TIMES_DEFAULT = {Optimizer.LION: 50.0, Optimizer.SGD: 10.0, Optimizer.LOMO: 10.0, Optimizer.ADALOMO: 40.0}
"""The larger rate of the others by their default: of LOMO and AdaLomo the best ones on small Llamas."""

RUN_TIMEOUT_S = 1800.0
SEED, OTHER_SEED = 42, 43


@dataclass(frozen=True)
class Run:
    optimizer: Optimizer
    learning_rate: float
    seed: int = SEED

    def __str__(self) -> str:
        return f"{self.optimizer.value} {self.learning_rate:g}{'' if self.seed == SEED else ', another order'}"


@dataclass(frozen=True)
class Losses:
    """Of the rows that are held out, before the first step and after the last."""

    before: float
    after: float

    @property
    def progress(self) -> float:
        return self.before - self.after


def main() -> None:
    options = _options()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed prints what it builds
    body, told = header("learning", options.date) | {"step_count": options.steps}, {}
    with tempfile.TemporaryDirectory() as root:
        forker, model = Forker(Path(root, "log"), RUN_TIMEOUT_S), str(Path(root, "model"))
        Path(model).mkdir()
        forker.call(_make_model, model)
        for run in _runs(options.only):
            told[run] = forker.call(train, run, model, options.steps, str(Path(root, "scratch")))
            print(_line(run, told), file=answer if options.table else sys.stderr, flush=True)
    if not told:
        sys.exit("learning.py: no optimizer has that name")
    if not options.table:
        print(json.dumps(body | {"runs": [_entry(run, told) for run in told]}, indent=2), file=answer)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="of each training")
    parser.add_argument("--only", action="append", help="only this optimizer beside AdamW; may be repeated")
    parser.add_argument("--table", action="store_true", help="lines for people instead of JSON")
    add_date(parser)
    return parser.parse_args()


def _runs(only: Sequence[str] | None) -> Iterator[Run]:
    for rate in ADAMW_RATES:
        yield Run(Optimizer.ADAMW, rate)
        yield Run(Optimizer.ADAMW, rate, OTHER_SEED)
    for optimizer in Optimizer:
        if optimizer is not Optimizer.ADAMW and (only is None or optimizer.value in only):
            default = LEARNING_RATES[optimizer][Method.FULL]
            times = TIMES_DEFAULT.get(optimizer)
            rates = ADAMW_RATES if times is None else (default, times * default)
            yield from (Run(optimizer, rate) for rate in rates)


def _make_model(folder: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for file in (EXAMPLES / "tiny-llama").glob("tokenizer*"):
        shutil.copy(file, Path(folder, file.name))
    config = AutoConfig.from_pretrained(EXAMPLES / "tiny-llama")
    config.update({"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3})
    config.update({"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24})
    torch.manual_seed(SEED)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def train(run: Run, model: str, step_count: int, scratch: str) -> Losses:
    """Trains as a full run does, evaluating before and after; in a process of its own."""
    os.environ.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"
    )
    import torch

    from autofit.worker.data.training_data import training_data
    from autofit.worker.rank.process_group import join_group
    from autofit.worker.tasks.sft import SftTrainer
    from autofit.worker.training.job_model import pretrained_model
    from autofit.worker.training.trainer_arguments import job_arguments

    job = _job(run, model, step_count)
    with tempfile.TemporaryDirectory() as folder:
        join_group(job, Path(folder, "store"))
        arguments = job_arguments(job, output_path=scratch, overrides={"save_strategy": "no", "report_to": "none"})
        data = training_data(job.request)
        trainer = SftTrainer(
            model=pretrained_model(job, torch.device("cpu"), hear=lambda *_: None, tell=lambda _: None),
            args=arguments,
            train_dataset=data.train,
            eval_dataset=data.evaluation,
            processing_class=data.tokenizer,
        )
        trainer.train()
    evaluated = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    return Losses(evaluated[0], evaluated[-1])


def _job(run: Run, model: str, step_count: int) -> Job:
    extra = ("--eval_on_start", "true", "--eval_strategy", "steps", "--eval_steps", str(step_count))
    training = Training(learning_rate=run.learning_rate, max_steps=step_count, seed=run.seed, extra_arguments=extra)
    request = Request(
        model, TOKENS, global_batch=ROWS, data=str(EXAMPLES / "dialogues.jsonl"),
        eval_data=str(EXAMPLES / "dialogues-eval.jsonl"), training=training,
    )  # fmt: skip
    strategy = Strategy(_rung(run.optimizer), ROWS, 1)
    shape = read_model_files(model).shape
    assert shape is not None
    config = engine_config(strategy, request, shape, DeviceKind.CPU)
    return Job(request, strategy, json.dumps(config), DeviceKind.CPU, 1)


def _rung(optimizer: Optimizer) -> Rung:
    from autofit.domain.knobs.attention import Attention
    from autofit.domain.knobs.dtype import Dtype
    from autofit.domain.knobs.offload import Offload

    return Rung(
        zero_stage=3 if optimizer in (Optimizer.LOMO, Optimizer.ADALOMO) else 2,
        method=Method.FULL,
        gradient_checkpointing=False,
        offload=Offload.NONE,
        dtype=Dtype.BF16,
        optimizer=optimizer,
        attention=Attention.SDPA,
    )


def _share(run: Run, told: dict[Run, Losses]) -> float | None:
    """The progress by that of AdamW at the same learning rate; None where AdamW does not take it."""
    beside = told.get(Run(Optimizer.ADAMW, run.learning_rate))
    return None if beside is None else told[run].progress / beside.progress


def _entry(run: Run, told: dict[Run, Losses]) -> dict[str, object]:
    share = _share(run, told)
    return {
        "optimizer": run.optimizer.value,
        "learning_rate": run.learning_rate,
        "seed": run.seed,
        "loss_before": round(told[run].before, 4),
        "loss_after": round(told[run].after, 4),
        "progress": round(told[run].progress, 4),
        "progress_by_adamw": None if share is None else round(share, 4),
    }


def _line(run: Run, told: dict[Run, Losses]) -> str:
    share = _share(run, told)
    beside = "" if share is None else f"  {share:6.1%} of AdamW's progress"
    return f"{run!s:36} {told[run].before:.4f} → {told[run].after:.4f}{beside}"


if __name__ == "__main__":
    main()
