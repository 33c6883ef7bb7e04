"""The options of DeepSpeed's launcher as it has them; a test holds this table against the installed one's parser."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import NoReturn

_LEVELS = ("debug", "info", "warning", "error", "critical")


class HelpAsked(Exception):
    """`-h` or `--help` stands before the script."""


class LineRefused(Exception):
    """DeepSpeed's own parser would not take the line."""


@dataclass(frozen=True)
class LauncherOption:
    """An option: `names[-1]` or the first long one gives the attribute, as argparse has it; a switch takes no value."""

    names: tuple[str, ...]
    help: str
    kind: type = str
    default: str | int | bool | None = ""
    choices: tuple[str, ...] | None = None

    @property
    def is_switch(self) -> bool:
        return self.kind is bool


def _switch(*names: str, help: str) -> LauncherOption:
    return LauncherOption(names, help, kind=bool, default=False)


LAUNCHER_OPTIONS = (
    LauncherOption(("-H", "--hostfile"), "Hosts and their slots: `worker-0 slots=4`.", default="/job/hostfile"),
    LauncherOption(("-i", "--include"), "What to use: NODE[:SLOT,SLOT][@NODE...]."),
    LauncherOption(("-e", "--exclude"), "What not to use; written like --include."),
    LauncherOption(("--num_nodes",), "Only the first N hosts of the hostfile.", kind=int, default=-1),
    LauncherOption(("--num_gpus", "--num_accelerators"), "Devices 0 to N-1 of each node.", kind=int, default=-1),
    LauncherOption(("--master_port",), "Where the ranks meet; 29500.", kind=int, default=29500),
    LauncherOption(("--master_addr",), "Address of the first node."),
    LauncherOption(("--node_rank",), "This node's number, with --no_ssh.", kind=int, default=-1),
    LauncherOption(
        ("--launcher",), "Starts several nodes: pdsh, openmpi, mvapich, slurm, mpich, impi.", default="pdsh"
    ),
    LauncherOption(("--launcher_args",), "Arguments of that launcher, as one word."),
    _switch("--module", help="The script is a module, as with `python -m`."),
    _switch("--no_python", help="The script is a program of its own."),
    _switch("--no_local_rank", help="The script gets no --local_rank."),
    _switch("--no_ssh", help="Each node is started by hand."),
    _switch("--no_ssh_check", help="Do not try ssh first."),
    _switch("--force_multi", help="Start a single node like many."),
    _switch("--save_pid", help="The launcher's process id goes to /tmp/PID.deepspeed."),
    LauncherOption(("--enable_each_rank_log",), "A folder for one log of each rank.", default="None"),
    LauncherOption(("--autotuning",), "autofit's search takes the place of this one.", choices=("tune", "run")),
    _switch("--bind_cores_to_rank", help="Each rank has cores of its own."),
    LauncherOption(("--bind_core_list",), "Which cores: 1,3-5,7.", default=None),
    LauncherOption(("--ssh_port",), "Port of ssh on the nodes.", kind=int, default=None),
    LauncherOption(("--venv_script",), "Activates the virtual environment on the nodes.", default=None),
    LauncherOption(("--log_level",), "How much the launcher says; info.", default="info", choices=_LEVELS),
    _switch("-q", "--quiet", help="The same as --log_level error."),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LineRefused(message)


class _AskForHelp(argparse.Action):
    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise HelpAsked


def launcher_parser(*, is_script_required: bool = True) -> argparse.ArgumentParser:
    """The parser is argparse itself, so that abbreviations and what is refused are DeepSpeed's; it raises HelpAsked and
    LineRefused."""
    parser = _Parser(add_help=False)
    parser.add_argument("-h", "--help", action=_AskForHelp, nargs=0)
    for option in LAUNCHER_OPTIONS:
        if option.is_switch:
            parser.add_argument(*option.names, action="store_true")
        else:
            parser.add_argument(*option.names, type=option.kind, default=option.default, choices=option.choices)
    parser.add_argument("user_script", type=str, nargs=None if is_script_required else "?")
    parser.add_argument("user_args", nargs=argparse.REMAINDER)
    return parser
