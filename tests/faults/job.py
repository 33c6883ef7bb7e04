"""The training in which faults happen: the smallest model that real DeepSpeed trains, evaluates and saves."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from autofit.app.probe_specs import training_files
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.model import ModelShape
from autofit.domain.request import Request, Training
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice
from autofit.domain.workload import BatchShape
from autofit.inputs.model_files import read_model_files
from autofit.planning.export.deepspeed_config import engine_config
from autofit.probing.protocol import Job, ProbeSpec
from autofit.running.training_command import TrainingFiles
from autofit.runs.run_folder import RunFolder
from tests.builders import make_hardware, make_request, make_rung

RANKS, TOKENS, ROWS = 2, 64, 48
STEPS, SAVE_STEPS = 6, 2
STRATEGY = Strategy(make_rung(2), 2, 2)
_TINY = Path(__file__).parents[2] / "examples/tiny-llama"
_SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 4}
_WORDS = ("the", "plant", "that", "Ravi", "forgot", "wants", "water", "again", "on", "Monday", "and", "rain", "soon")


@dataclass(frozen=True)
class Inputs:
    """A model and rows of different lengths, in a folder."""

    model: Path
    data: Path

    @classmethod
    def make(cls, folder: Path) -> Inputs:
        inputs = cls(folder / "model", folder / "rows.jsonl")
        inputs._write_model()
        draw = random.Random(0)
        rows = [{"text": " ".join(draw.choices(_WORDS, k=draw.randint(5, 30)))} for _ in range(ROWS)]
        inputs.data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return inputs

    def _write_model(self) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        shutil.copytree(_TINY, self.model, ignore=shutil.ignore_patterns("*.safetensors"))
        config = self.model / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), **_SIZES, **_HEADS}))
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(self.model)).save_pretrained(self.model)

    @property
    def shape(self) -> ModelShape:
        return read_model_files(str(self.model)).shape

    @property
    def request(self) -> Request:
        evaluated = ("--eval_strategy", "steps", "--eval_steps", str(SAVE_STEPS))
        training = Training(max_steps=STEPS, learning_rate=1e-3, save_steps=SAVE_STEPS, extra_arguments=evaluated)
        asked = {"global_batch": 8, "ranks": RANKS, "data": str(self.data), "eval_fraction": 0.2}
        return make_request(self.model, TOKENS, training=training, **asked)

    @property
    def config(self) -> str:
        return json.dumps(engine_config(STRATEGY, self.request, self.shape, DeviceKind.CPU))

    def probe(self, folder: Path, *, silence_s: float) -> ProbeSpec:
        """A probe that goes through all phases; what it writes lies in `folder`."""
        job = Job(self.request, STRATEGY, self.config, DeviceKind.CPU, RANKS)
        shapes = (BatchShape(TOKENS, TOKENS - 0.5),)
        scratch, log = str(folder / "scratch"), str(folder / "probe.log")
        return ProbeSpec(job, shapes, shapes, scratch, log, silence_s, has_save=True, measure_s=0.1)

    @property
    def hardware(self) -> Hardware:
        return make_hardware(RANKS)

    def prepare(self, run: RunFolder) -> TrainingFiles:
        """Writes down what a search would have decided."""
        run.create()
        run.write_request(self.request)
        run.write_hardware(self.hardware)
        run.write_choice(Choice(STRATEGY, None, "of a test"))
        run.write_ds_config(json.loads(self.config))
        return training_files(run, STRATEGY.rung)

    def words(self, out: Path) -> list[str]:
        """The flags of the same training."""
        training = self.request.training
        words = ["--model", str(self.model), "--data", str(self.data), "--seq", str(TOKENS), "--batch-size", "8"]
        words += ["--ranks", str(RANKS), "--method", "full", "--zero-stage", "2", "--micro-batch", "2"]
        words += ["--gradient-checkpointing", "off", "--learning-rate", str(training.learning_rate)]
        words += ["--max-steps", str(STEPS), "--save-steps", str(SAVE_STEPS), "--eval-fraction", "0.2"]
        return ["train", *words, "--output-dir", str(out), "--", *training.extra_arguments]
