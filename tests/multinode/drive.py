"""Run on a host of the rig: a cluster over all hosts, told what to do on the command line, telling it in JSON lines."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from autofit.domain.codec import encode
from autofit.domain.deepspeed_line import HostSlots, LauncherOptions, LaunchLine, Layout
from autofit.domain.errors import AutofitError
from autofit.domain.hardware import DeviceKind
from autofit.domain.script import RuntimePatches, Script
from autofit.probing.nodes.cluster import Cluster
from autofit.probing.protocol import ScriptJob, ScriptSpec, Share

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIG = {
    "train_micro_batch_size_per_gpu": 1,
    "gradient_accumulation_steps": 1,
    "zero_optimization": {"stage": 3},
    "bf16": {"enabled": True},
    "zero_force_ds_cpu_optimizer": False,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "torch_adam": True}},
}


def main() -> None:
    options = _parser().parse_args()
    words = ("--hostfile", options.hostfile)
    line = LaunchLine(words, str(EXAMPLES / "deepspeed/plain_loop.py"), (), LauncherOptions(options.hostfile))
    layout = Layout(tuple(HostSlots(address, (0,)) for address in options.hosts), is_multi_node=True)
    log_path = Path("agent.log")
    try:
        with Cluster(line, layout, log_path=log_path, connect_timeout_s=40.0) as cluster:
            say("nodes", [len(node.devices) for node in cluster.nodes])
            say("ready", cluster.wait_ready().start_s)
            if options.put is not None:
                cluster.put_file(Path(options.put), "put\n")
                say("put", options.put)
            with tempfile.TemporaryDirectory() as folder:
                for model in options.models:
                    place = Path(folder, Path(model).name)
                    spec = inspect(cluster, line.script, layout, model, place, options.steps)
                    outcome, facts = cluster.inspect(spec, lambda phase: say("beat", phase.value))
                    say("outcome", encode(outcome))
                    say("facts", encode(facts))
    except AutofitError as error:
        say("failed", str(error))
    say("ended", time.time())


def inspect(cluster: Cluster, script: str, layout: Layout, model: str, place: Path, steps: int) -> ScriptSpec:
    address, port = cluster.master_address, cluster.free_port()
    words = ("--deepspeed_config", str(place / "ds.json"), "--output_dir", str(place / "out"), "--model", model)
    count = len(layout.hosts)
    return ScriptSpec(
        ScriptJob(Script(script, words, str(Path.cwd())), None, RuntimePatches(), DeviceKind.CPU, count),
        tuple(Share(index, count, index, 1, (), address, port) for index in range(count)),
        str(place),
        str(Path("probe.log").absolute()),
        heartbeat_timeout_s=60.0,
        files=(("ds.json", json.dumps(CONFIG)),),
        measured_steps=steps,
    )


def say(what: str, value: object) -> None:
    print(json.dumps([what, value]), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hostfile", required=True)
    parser.add_argument("--hosts", nargs="+", required=True)
    parser.add_argument("--models", nargs="*", default=[], help="one probe each")
    parser.add_argument("--steps", type=int, default=1, help="of a probe")
    parser.add_argument("--put", help="a file to put onto every host")
    return parser


if __name__ == "__main__":
    main()
