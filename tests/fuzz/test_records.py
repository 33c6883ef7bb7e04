"""What is read again: the files of a run folder, checkpoints, what a script's line names, the store, the kernel's
texts."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofit.domain.request import Request
from autofit.hardware import cgroup
from autofit.inputs import script_checkpoint
from autofit.inputs.script_recipe import read_recipe
from autofit.inputs.torch_file import named_scalars
from autofit.inputs.training_checkpoint import read_checkpoint
from autofit.runs.journal import Journal
from autofit.runs.json_file import write_value
from autofit.runs.run_folder import RunFolder
from autofit.store import Store

from .junk import changed, clean, damaged, json_bytes

STATE = {"global_step": 12, "epoch": 1.0, "log_history": []}
ADAPTER = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


def _request_bytes(folder: Path) -> bytes:
    write_value(folder / "good.json", Request("m", 64))
    return (folder / "good.json").read_bytes()


@given(st.data())
def test_a_damaged_run_folder(tmp_path: Path, data: st.DataObject) -> None:
    folder = RunFolder(tmp_path)
    content = data.draw(damaged(_request_bytes(tmp_path)))
    for name in ("request.json", "choice.json", "result.json", "hardware.json", "data.json", "data_digest.json"):
        (tmp_path / name).write_bytes(content)
    for read in (
        folder.read_request, folder.read_choice, folder.read_result, folder.read_hardware, folder.read_profile,
        folder.read_data_digest, folder.check,
    ):  # fmt: skip
        clean(read)


@given(st.data())
def test_a_request_of_odd_values(tmp_path: Path, data: st.DataObject) -> None:
    body = json.loads(_request_bytes(tmp_path))
    (tmp_path / "request.json").write_bytes(json_bytes(data.draw(changed(body))))
    clean(RunFolder(tmp_path).read_request)


@given(st.binary(max_size=60) | st.just(b'{"schema": 1}\n') | st.just(b"[" * 9000 + b"\n"))
def test_a_damaged_history_of_trials(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(content)
    clean(Journal(path, "--output-dir").read)


@given(st.one_of(changed(STATE).map(json_bytes), damaged(json_bytes(STATE))),
       st.one_of(changed(ADAPTER).map(json_bytes), damaged(json_bytes(ADAPTER))), st.binary(max_size=12))  # fmt: skip
def test_a_damaged_checkpoint(tmp_path: Path, state: bytes, adapter: bytes, latest: bytes) -> None:
    (tmp_path / "trainer_state.json").write_bytes(state)
    (tmp_path / "adapter_config.json").write_bytes(adapter)
    (tmp_path / "optimizer.pt").touch()
    clean(lambda: read_checkpoint(str(tmp_path)))
    (tmp_path / "latest").write_bytes(latest)
    clean(lambda: read_checkpoint(str(tmp_path)))
    clean(lambda: script_checkpoint.read_checkpoint(tmp_path))
    (tmp_path / "latest").unlink()


def _torch_file(pickled: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("args/data.pkl", pickled)
    return stream.getvalue()


PICKLED = pickle.dumps({"seed": 1, "optim": "adamw_torch", "bf16": True, "learning_rate": 1e-4}, protocol=2)


@given(st.one_of(damaged(_torch_file(PICKLED)), damaged(PICKLED).map(_torch_file)))
def test_a_damaged_file_of_arguments(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "training_args.bin"
    path.write_bytes(content)
    clean(lambda: named_scalars(path))


@given(damaged(b"learning_rate: 1e-4\nnested: {a: [1, 2]}\n"), st.sampled_from(["a.yaml", "a.json", "a.txt"]))
def test_a_damaged_file_of_a_scripts_arguments(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert isinstance(clean(lambda: read_recipe(str(tmp_path / name))), dict)


@given(st.binary(max_size=200))
def test_a_damaged_store(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "autofit.sqlite"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    with Store(path) as store:
        clean(store.counts)
        clean(lambda: store.get_facts("f"))


_KERNEL_WORDS = [
    b"max", b"0::/\n", b"2:memory:/\n1:cpu:/", b"max 0", b"5 0", b"1 -1", b"nan inf", b"oom_kill", b"oom_kill x",
    b"inactive_file -1", "²".encode(),
]  # fmt: skip


@given(st.dictionaries(st.sampled_from([
    "proc/self/cgroup", "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.stat",
    "sys/fs/cgroup/memory.events", "sys/fs/cgroup/cpu.max", "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "sys/fs/cgroup/cpu/cpu.cfs_period_us",
]), st.one_of(
    st.binary(max_size=12), st.sampled_from(_KERNEL_WORDS),
)))  # fmt: skip
def test_odd_texts_of_the_kernel(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, bytes]) -> None:
    root = tmp_path_factory.mktemp("root")
    for name, content in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    for read in (cgroup.memory_limits, cgroup.core_limits, cgroup.oom_kill_count):
        clean(lambda read=read: read(root))  # type: ignore[misc]


def test_what_is_good_is_read(tmp_path: Path) -> None:
    write_value(tmp_path / "request.json", Request("m", 64))
    assert RunFolder(tmp_path).read_request() == Request("m", 64)
    path = tmp_path / "training_args.bin"
    path.write_bytes(_torch_file(PICKLED))
    assert named_scalars(path)["optim"] == "adamw_torch"
