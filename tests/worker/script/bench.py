"""A user's folder with a script in it, and an agent that probes it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Measured, Outcome, Phase
from autofit.domain.script import RuntimePatches, Script, ScriptFacts
from autofit.probing.agent import Agent
from autofit.probing.protocol import ScriptJob, ScriptSpec, Share
from autofit.process.rendezvous import shared_memory_files

SCRIPTS = Path(__file__).parents[1] / "scripts"
EXAMPLES = Path(__file__).parents[3] / "examples"
MODEL = str(EXAMPLES / "tiny-llama")
AUTO = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 2},
}


def config(micro_batch: int = 2, accumulation: int = 1, stage: int = 2) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": stage},
        "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
    }


@dataclass
class Bench:
    """A user's folder with a script in it, and an agent that probes it."""

    agent: Agent
    folder: Path
    phases: list[Phase]

    def spec(self, script: str, *arguments: str, deepspeed: dict[str, Any] | None = None, **job: Any) -> ScriptSpec:
        """`DS` in the arguments is the config's path."""
        scratch = self.folder / "scratch"
        share = Share(0, 1, 0, 2, ("0", "1"), self.agent.master_address, self.agent.free_port())
        words = tuple(word.replace("DS", str(scratch / "ds.json")) for word in arguments)
        shutil.copy(SCRIPTS / script, self.home / script)
        values = {"strategy": None, "turns": RuntimePatches(), **job}
        return ScriptSpec(
            ScriptJob(Script(script, words, str(self.home)), kind=DeviceKind.CPU, rank_count=2, **values),
            (share,),
            str(scratch),
            str(self.folder / "probe.log"),
            heartbeat_timeout_s=60.0,
            files=(("ds.json", json.dumps(deepspeed or config())),),
            measured_steps=2,
        )

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def log(self) -> str:
        return (self.folder / "probe.log").read_text()

    def inspect(self, spec: ScriptSpec) -> tuple[Outcome, ScriptFacts | None]:
        """Whatever comes out, nothing of the probe's own is left, and the user's folder is as it was."""
        before = _listing(self.home)
        outcome, facts = self.agent.inspect(spec, self.phases.append)
        assert _listing(self.home) == before, self.log
        assert not Path(spec.scratch_path).exists()
        assert list(shared_memory_files(str(spec.shares[0].master_port))) == []
        return outcome, facts

    def measured(self, spec: ScriptSpec) -> tuple[Measured, ScriptFacts]:
        outcome, facts = self.inspect(spec)
        assert isinstance(outcome, Measured), (outcome, self.log)
        assert facts is not None
        return outcome, facts


def _listing(folder: Path) -> dict[str, bytes | None]:
    """Of every file and folder below."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
