"""How long two ranks take to load a model, and in how much host memory: autofit's way and `from_pretrained` by itself.

python benchmarks/loading.py [--rounds 3] [--layers 12] [--date 2026-11-26]

Prints one JSON object. The ways take turns; the files lie in the page cache, so that no disk is measured. It needs 4 GB
of disk and as much memory.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from _loading_case import DTYPE, FILES, RANKS, STAGES, WAYS, Case, Loaded, write_models
from _machine import add_date, header

from autofit.domain.codec import decode
from autofit.domain.hardware import DeviceKind
from autofit.process.python import worker_environment
from autofit.process.rendezvous import free_port, remove_shared_memory

_TIMEOUT_S = 600.0
_RANK = Path(__file__).with_name("_loading_rank.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="each loads every case in every way")
    parser.add_argument("--layers", type=int, default=12, help="of the model; 12 make 1.5 GB")
    add_date(parser)
    options = parser.parse_args()
    cases = [Case(*each) for each in product(STAGES, FILES, WAYS)]
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed prints what it finds
    body = header("loading", options.date) | {"rounds": options.rounds, "ranks": RANKS, "dtype": DTYPE}
    found: dict[Case, list[Loaded]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        parameters = write_models(Path(folder), options.layers)
        for _ in range(options.rounds):
            for case in cases:
                found[case].append(load(case, Path(folder)))
                print(f"{case}: {found[case][-1]}", file=sys.stderr)
    rows = [case._asdict() | _medians(found[case]) for case in cases]
    print(json.dumps(body | {"model_bytes": 2 * parameters, "cases": rows}, indent=2), file=answer)
    answer.close()


def load(case: Case, models: Path) -> Loaded:
    """Loads in two new processes; of each figure that of the rank with more of it."""
    port = str(free_port())
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(RANKS), "LOCAL_SIZE": str(RANKS)}
    environment = os.environ | worker_environment(DeviceKind.CPU) | place
    command = [sys.executable, str(_RANK), str(models), json.dumps(case)]
    ranks = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(RANKS)
    ]
    try:
        said = [rank.communicate(timeout=_TIMEOUT_S) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
        remove_shared_memory(port)
    if any(rank.returncode != 0 for rank in ranks):
        raise SystemExit("\n".join(error for _, error in said))
    loaded = [decode(Loaded, json.loads(output.splitlines()[-1])) for output, _ in said]
    return Loaded(**{name: max(vars(each)[name] for each in loaded) for name in vars(loaded[0])})


def _medians(rounds: list[Loaded]) -> dict[str, float]:
    return {name: round(statistics.median(vars(each)[name] for each in rounds), 3) for name in vars(rounds[0])}


if __name__ == "__main__":
    main()
