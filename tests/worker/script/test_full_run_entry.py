"""The small entry of the full run, beside the plain script: the same in every respect that a script can see."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.script import RuntimePatches
from autofit.probing.protocol import ENTRY_MODULE, ScriptEntry, encode_entry
from autofit.process.python import script_environment
from autofit.process.rendezvous import shared_memory_files

MODEL = Path(__file__).parents[3] / "examples/tiny-llama"
SEES = """
import atexit, os, pickle, sys
import neighbour

class Mine: ...

def at_the_end():
    print(pickle.loads(pickle.dumps(Mine())).__class__, sys.modules["__main__"].Mine)

atexit.register(at_the_end)
print(__name__, __file__, __package__, sys.argv, sys.path[:2], os.getcwd(), neighbour.__file__)
"""
TRAINS = """
import sys, json, torch, deepspeed
from transformers import AutoConfig, AutoModelForCausalLM
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(sys.argv[-1]), dtype=torch.bfloat16)
config = {"train_micro_batch_size_per_gpu": 2, "bf16": {"enabled": True}, "zero_optimization": {"stage": 1},
          "optimizer": {"type": "AdamW", "params": {"torch_adam": True}}}
engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
for _ in range(3):
    ids = torch.ones(2, 64, dtype=torch.long)
    engine.backward(engine(input_ids=ids, labels=ids).loss)
    engine.step()
print("trained", model.is_activation_checkpointing, model.config._attn_implementation)
"""


class Home:
    """A user's folder with scripts in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code and what was said on both streams."""
        environment = script_environment(DeviceKind.CPU) | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-u", *words]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def entered(self, entry: ScriptEntry, *words: str) -> tuple[int, str, str]:
        return self.run("-m", ENTRY_MODULE, "--local_rank=0", encode_entry(entry), *words)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


AS_IT_IS = ScriptEntry(RuntimePatches(), DeviceKind.CPU)


def test_a_script_sees_what_it_always_saw(home: Home) -> None:
    home.write("code/train.py", SEES)
    home.write("code/neighbour.py", "")
    plain = home.run("code/train.py", "--local_rank=0", "--lr", "1e-3")
    assert plain[0] == 0, plain
    assert home.entered(AS_IT_IS, "code/train.py", "--lr", "1e-3") == plain


def test_a_module_sees_what_it_always_saw(home: Home) -> None:
    home.write("pack/__init__.py", "")
    home.write("neighbour.py", "")
    home.write("pack/train.py", SEES.replace("atexit.register(at_the_end)", ""))
    plain = home.run("-m", "pack.train", "--local_rank=0", "--lr", "1e-3")
    assert plain[0] == 0, plain
    assert (
        home.entered(ScriptEntry(RuntimePatches(), DeviceKind.CPU, is_module=True), "pack.train", "--lr", "1e-3")
        == plain
    )


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    raise RuntimeError('no')\nf()\n",
        "import sys\nsys.exit(3)\n",
        "import sys\nsys.exit('wrong')\n",
        "def (\n",
        "import nothing_such\n",
    ],
)
def test_it_ends_as_the_script_would(home: Home, text: str) -> None:
    home.write("train.py", text)
    plain = home.run("train.py", "--local_rank=0")
    assert plain[0] != 0
    assert home.entered(AS_IT_IS, "train.py") == plain


def test_a_script_that_is_not_there(home: Home) -> None:
    assert home.entered(AS_IT_IS, "gone.py") == home.run("gone.py", "--local_rank=0")


def test_arguments_that_the_launcher_does_not_add_are_not_made_up(home: Home) -> None:
    home.write("train.py", "import sys\nprint(sys.argv)\n")
    word = encode_entry(AS_IT_IS)
    assert home.run("-m", ENTRY_MODULE, word, "train.py", "a b") == (0, "['train.py', 'a b']\n", "")


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of a rank that trains alone, as DeepSpeed's launcher sets it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    places = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**places, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    yield
    for path in shared_memory_files(port):
        path.unlink()  # DeepSpeed leaves it; after `autofit` the launcher's handle takes it away


@pytest.mark.slow
def test_what_is_turned_is_turned_in_the_training(home: Home, one_rank: None) -> None:
    """Under a limit that suffices."""
    home.write("train.py", TRAINS)
    code, said, complaints = home.entered(
        ScriptEntry(RuntimePatches(gradient_checkpointing=True), DeviceKind.CPU, memory_limit_bytes=2_000_000_000),
        "train.py",
        str(MODEL),
    )
    assert code == 0, complaints
    assert "trained True sdpa" in said


@pytest.mark.slow
def test_memory_is_capped_in_the_training(home: Home, one_rank: None) -> None:
    home.write("train.py", TRAINS)
    entry = ScriptEntry(RuntimePatches(), DeviceKind.CPU, memory_limit_bytes=520_000_000)
    code, said, complaints = home.entered(entry, "train.py", str(MODEL))
    assert code == 1
    assert "trained" not in said
    assert "can't allocate memory" in complaints
