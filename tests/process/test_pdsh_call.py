"""DeepSpeed's call of pdsh, read, and turned to other ends."""

from __future__ import annotations

from autofit.process.pdsh_call import PdshCall

OPTIONS = ["pdsh", "-S", "-f", "1024", "-w", "worker-0,worker-1", "-x", "worker-9"]
PREFIX = ["source env;", "export A=b; ", "cd /job;", "/bin/python3"]
LAUNCH = ["-u", "-m", "deepspeed.launcher.launch", "--world_info=abc=", "--node_rank=%n", "--master_addr=10.0.0.1"]
COMMAND = [*OPTIONS, *PREFIX, *LAUNCH, "--master_port=29500", "train.py", "--master_port=1"]


def call(command: list[str] = COMMAND) -> PdshCall | None:
    return PdshCall.of(command, {"PDSH_RCMD_TYPE": "ssh"}, "autofit=1")


def test_the_mark_is_pythons_and_all_else_stays() -> None:
    read = call()
    assert read is not None
    assert list(read.words) == [*OPTIONS, *PREFIX, "-X", "autofit=1", *LAUNCH, *COMMAND[-3:]]


def test_what_is_known_of_the_job() -> None:
    read = call()
    assert read is not None
    assert read.hosts == ("worker-0", "worker-1")
    assert read.value("--master_addr") == "10.0.0.1"
    assert read.value("--master_port") == "29500"
    assert read.variables == (("PDSH_RCMD_TYPE", "ssh"),)


def test_other_words_for_the_same_nodes() -> None:
    read = call()
    assert read is not None
    assert list(read.on_nodes("-c", "pass", connect_s=5)) == ["pdsh", "-t", "5", *OPTIONS[1:], *PREFIX, "-c", "pass"]


def test_other_back_ends_are_none_of_it() -> None:
    assert call(["mpirun", "-n", "2", "/bin/python3", "-u", "train.py"]) is None
    assert call(["/bin/python3", *LAUNCH, "train.py"]) is None
    assert call([*OPTIONS, "hostname"]) is None
