"""Optimizer steps and the last learning rate are those of plain DeepSpeed, for scripts that count in different ways.

Each script is looked at, and then run to its end as it was written and with the configuration that differs most from
that, of those that the looks leave open: what a search chooses lies between.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autofit.app.script.launch_context import LaunchContext
from autofit.app.script.script_inspector import ScriptInspector
from autofit.app.script.script_specs import ScriptSpecs
from autofit.app.script.tunable_line import TunableLine
from autofit.domain.deepspeed_line import HostSlots, LaunchLine, LaunchSettings, Layout
from autofit.domain.hardware import DeviceKind
from autofit.planning.script.inspection import leanest
from autofit.probing.agent import Agent
from autofit.runs.run_folder import RunFolder
from tests.builders import make_hardware

pytestmark = pytest.mark.slow
SCRIPT = str(Path(__file__).parents[1] / "worker/scripts/counting.py")
LAYOUT = Layout((HostSlots("localhost", (0,)),), is_multi_node=False)
OPTIMIZER = {"type": "AdamW", "params": {"torch_adam": True, "lr": 0.01}}
SCHEDULER = {"type": "WarmupDecayLR", "params": {"total_num_steps": 20, "warmup_num_steps": 4}}
PLAIN = {"train_batch_size": 16, "optimizer": OPTIMIZER, "scheduler": SCHEDULER}
AUTO = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "zero_optimization": {},
    "optimizer": {"type": "AdamW", "params": {"torch_adam": True, "lr": "auto"}},
}
FLAGS = ("--per_device_train_batch_size", "16")


@dataclass(frozen=True)
class Case:
    name: str
    words: tuple[str, ...]
    config: dict[str, Any]
    steps: int
    is_tuned: bool  # whether the looks leave the micro-batch open


CASES = (
    Case("batches", ("--count=batches",), PLAIN, 10, is_tuned=False),
    Case("steps", ("--count=steps",), PLAIN, 10, is_tuned=True),
    Case("epochs", ("--count=epochs",), PLAIN, 20, is_tuned=False),
    Case("boundary", ("--count=boundary",), PLAIN, 20, is_tuned=True),
    Case("a rest", ("--count=boundary", "--rows=152"), PLAIN, 20, is_tuned=False),
    Case("trainer", ("--count=trainer", "--rows=152", *FLAGS), AUTO, 20, is_tuned=True),
)

RUN_ALL = """
import json, os, sys
import deepspeed, transformers, transformers.integrations.deepspeed
from autofit.worker.script.python_main import run_as_main
os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1")
for number, words in enumerate(json.load(sys.stdin)):
    if os.fork() == 0:
        os.environ["MASTER_PORT"] = str(int(sys.argv[1]) + number)
        sys.stdout.flush()
        os.dup2(os.open(f"{number}.log", os.O_WRONLY | os.O_CREAT), 1)
        run_as_main(words[0], words[1:], is_module=False)
        os._exit(0)
    os.wait()
"""


@dataclass(frozen=True)
class Looked:
    own: tuple[str, ...]
    turned: tuple[str, ...]
    micro_batch: int
    notes: tuple[str, ...]


def look(case: Case, agent: Agent, folder: Path) -> Looked:
    config_path, turned_path = folder / f"{case.name}.json", folder / f"{case.name}-turned.json"
    config_path.write_text(json.dumps(case.config))
    line = LaunchLine((), SCRIPT, ("--deepspeed_config", str(config_path), *case.words))
    run_folder = RunFolder(folder / f"runs-{case.name}")
    run_folder.create()
    tunable = TunableLine(line, LaunchSettings(steps=1), case.config, str(folder))
    context = LaunchContext(LAYOUT, make_hardware(), agent)
    inspector = ScriptInspector(ScriptSpecs(tunable, context, run_folder, folder / f"scratch-{case.name}"), print)
    known = inspector.inspect_knobs(inspector.inspect_as_is())
    rewriter = known.rewriter
    strategy = leanest(rewriter.facts, rewriter.knobs, known.attention)
    turned = rewriter.trained(strategy, str(turned_path))
    turned_path.write_text(turned.config)
    return Looked((SCRIPT, *line.arguments), (SCRIPT, *turned.arguments), strategy.micro_batch, rewriter.knobs.notes)


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Looked]]:
    """All cases, and the folder where `N.log` is what the N-th run of all said: a case's own, then its turned one."""
    folder = tmp_path_factory.mktemp("counting")
    with Agent(kind=DeviceKind.CPU, log_path=folder / "agent.log") as agent:
        port = agent.free_port()
        found = {case.name: look(case, agent, folder) for case in CASES}
    runs = [words for one in found.values() for words in (one.own, one.turned)]
    program = [sys.executable, "-c", RUN_ALL, str(port)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
    subprocess.run(program, input=json.dumps(runs), cwd=folder, env=environment, text=True, check=True, timeout=200)
    return folder, found


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=[case.name for case in CASES])
def test_steps_and_the_last_learning_rate_stay(number: int, case: Case, looked: tuple[Path, dict[str, Looked]]) -> None:
    folder, found = looked
    own, turned = (_last_line(folder / f"{2 * number + index}.log") for index in range(2))
    assert own["steps"] == case.steps
    assert turned == own, found[case.name]
    assert (found[case.name].micro_batch == 1) == case.is_tuned, found[case.name]


def _last_line(log: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(log.read_text().strip().splitlines()[-1])
    return said
