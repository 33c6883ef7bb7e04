"""From model, data and batch to the saved model: autofit, its search included, against what people run instead.

python benchmarks/peers.py [--steps 20] [--rounds 3] [--method both] [--out FILE] [--date 2026-11-26]

The same supervised fine-tuning on the same machine, in turns: trl's script under torchrun (plain data parallel), under
`accelerate launch` with the ZeRO-2 and ZeRO-3 configurations that trl ships, and `autofit train`. Same model, rows,
tokens, global batch, learning rate, bf16, a log line a step, no evaluation, no checkpoint, the model saved; a peer has
the largest micro-batch that fits, without gradient checkpointing where that fits. Watched from outside: the command's
start, the line of each step, the command's end. Prints a table and writes a JSON object. About 12 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _case import EXAMPLES, LORA_R, MODEL, write_rows
from _machine import add_date, header
from _peers_competitors import Training
from _peers_report import body, how, print_table
from _peers_rounds import Bench, Seen

from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.method import Method
from autofit.hardware.machine import detect_here

_METHODS = {method.value: method for method in (Method.FULL, Method.LORA)}
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    options = _options()
    if options.model == MODEL:
        subprocess.run([sys.executable, EXAMPLES / "make_tiny_model.py"], check=True, stdout=subprocess.DEVNULL)
    opening = header("peers", options.date)
    hardware = detect_here(Path(), ranks=options.ranks)
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        os.environ |= {"HF_DATASETS_CACHE": str(folder / "datasets"), "TMPDIR": name}  # torchrun leaves folders there
        data = options.data or write_rows(folder)
        found = {
            method.value: _see(Bench(folder, _tell), _training(options, method, data, hardware), options)
            for method in options.methods
        }
    for seen in found.values():
        print_table(seen)
    result = opening | _case(options, hardware) | {name: body(seen) for name, seen in found.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {options.out}")


def _see(bench: Bench, training: Training, options: argparse.Namespace) -> Seen:
    if training.method is options.methods[0]:
        bench.warm_up(training)
    seen = bench.rounds(training, options.steps, options.rounds)
    if options.longer:
        bench.look_at_longer(seen)
    return seen


def _training(options: argparse.Namespace, method: Method, data: Path, hardware: Hardware) -> Training:
    return Training(
        model=options.model,
        data=data,
        sequence_length=options.seq,
        global_batch=options.batch_size,
        method=method,
        lora_r=options.lora_r,
        lora_alpha=2 * options.lora_r,
        hardware=hardware,
        limit=options.memory_limit,
    )


def _case(options: argparse.Namespace, hardware: Hardware) -> dict[str, object]:
    return {
        "model": options.model.name,
        "devices": [device.name for node in hardware.nodes for device in node.devices],
        "rank_count": hardware.rank_count,
        "sequence_length_tokens": options.seq,
        "global_batch": options.batch_size,
        "step_count": options.steps,
        "rounds": options.rounds,
        **how(options.memory_limit),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="of the trainings that are run to their end")
    parser.add_argument("--rounds", type=int, default=3, help="of every competitor; autofit's second time once")
    parser.add_argument("--method", choices=("both", *_METHODS), default="both")
    parser.add_argument("--model", type=Path, default=MODEL, help="a folder; 14 M parameters of examples/ unless told")
    parser.add_argument("--data", type=Path, help="jsonl whose rows (`text`) are all longer than --seq")
    parser.add_argument("--seq", type=int, default=256, help="tokens")
    parser.add_argument("--batch-size", type=int, default=8, help="the global batch")
    parser.add_argument("--lora-r", type=int, default=LORA_R)
    parser.add_argument("--ranks", type=int, help="devices; all GPUs, or two CPU ranks, unless told")
    parser.add_argument("--memory-limit", help="of each rank, for autofit alone")
    parser.add_argument("--longer", action=argparse.BooleanOptionalAction, default=True, help="10 minutes and an hour")
    parser.add_argument("--out", type=Path, help="where the JSON goes; results/DATE-peers-cpuN.json")
    add_date(parser)
    options = parser.parse_args()
    options.methods = [_METHODS[options.method]] if options.method in _METHODS else list(_METHODS.values())
    options.out = options.out or RESULTS / f"{options.date}-peers-{_machine()}.json"
    return options


def _machine() -> str:
    hardware = detect_here(Path())
    if hardware.kind is DeviceKind.CPU:
        return f"cpu{len(os.sched_getaffinity(0))}"
    return f"{hardware.nodes[0].devices[0].name.replace(' ', '-').lower()}x{hardware.rank_count}"


def _tell(text: str) -> None:
    """Progress goes where it does not mix with the result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
