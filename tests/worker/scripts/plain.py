"""A user's script: a plain loop over `deepspeed.initialize`. `--trouble` is what it does wrong."""

import argparse
import multiprocessing
import os
import shutil
import sys
import time

import deepspeed
import torch
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--rows", type=int, default=0)
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--save_dir", default="saved")
parser.add_argument("--trouble", default="")
options = deepspeed.add_config_arguments(parser).parse_args()
print("argv", sys.argv, sys.path[0], __file__, os.getcwd(), sys.stdin.read())
print("process", multiprocessing.current_process().name, multiprocessing.parent_process())
print("environment", {name: os.environ[name] for name in os.environ if name.split("_")[-1] in {"RANK", "SIZE"}})
sys.stdout.flush()


def rows_of(engine: deepspeed.DeepSpeedEngine) -> DataLoader:
    data = TensorDataset(torch.randn(4096, options.width))
    return DataLoader(data, options.rows or engine.train_micro_batch_size_per_gpu(), num_workers=1)


def train_step(engine: deepspeed.DeepSpeedEngine, rows: torch.Tensor) -> None:
    forward = engine.module if options.trouble == "past the engine" else engine
    loss = forward(rows.to(next(engine.parameters()).dtype)).float().pow(2).mean()
    engine.backward(loss * float("inf") if options.trouble == "infinite" else loss)
    engine.step()


if os.environ["RANK"] == "0":
    os.makedirs("run/logs")  # fails where a probe has left it
    os.replace("train.log", "train.log.1")
    with open("train.log", "w") as log:
        log.write("begun again")
if options.trouble == "hang":
    time.sleep(600)
with deepspeed.zero.Init(config_dict_or_path=options.deepspeed_config, enabled=options.trouble == "zero.Init"):
    layers = [torch.nn.Linear(options.width, options.width) for _ in range(4)]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(options.width, 1))
try:
    engine, *_ = deepspeed.initialize(options, model, model_parameters=model.parameters())
except RuntimeError:
    if options.trouble != "swallow":
        raise
    sys.exit("too large a model")
if options.trouble == "eval":
    engine.eval()
engine.load_checkpoint("kept")
_, state = engine.load_checkpoint("resumed")
if options.trouble == "resume":
    print("goes on after", state["step"])
try:
    for step, (rows,) in enumerate(rows_of(engine)):
        if step == options.steps:
            break
        if options.trouble == "raise" and step == 3:
            raise RuntimeError("the loss is not finite")
        try:
            train_step(engine, rows)
        except RuntimeError:
            if options.trouble != "swallow":
                raise
        engine.save_checkpoint("kept")
        torch.save(model.state_dict(), "kept/model.pt")
        torch.save({"step": step}, os.path.join(options.save_dir, "state.pt"))
        shutil.rmtree("kept", ignore_errors=True)
finally:
    open("finally", "w").close()
if options.trouble == "exit":
    sys.exit(3)
