"""Everything that a script writes as it goes: TensorBoard, a csv file, a log that is turned over, folders."""

import argparse
import csv
import logging
import os
import pathlib
import shutil

import deepspeed
import tiny
import torch
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--steps", type=int)
parser = deepspeed.add_config_arguments(parser)
options = parser.parse_args()
model = tiny.model()
engine, _, _, _ = deepspeed.initialize(args=options, model=model, model_parameters=model.parameters())
rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
os.makedirs(f"work/rank{rank}")
if os.path.exists("kept.txt") and rank == 0:
    os.replace("kept.txt", "kept.old.txt")
    os.remove("turned.log")
    shutil.copytree("pkg", "work/code")
    pathlib.Path("work/latest").symlink_to("code")
    os.chmod("ds.json", 0o600)
logging.basicConfig(filename=f"work/rank{rank}/train.log", level=logging.INFO)
writer = SummaryWriter("board") if rank == 0 else None
with open(f"work/rank{rank}/loss.csv", "w", newline="") as file:
    table = csv.writer(file)
    for batch in DataLoader(tiny.rows(4096)[rank::ranks], engine.train_micro_batch_size_per_gpu()):
        if engine.global_steps >= options.steps:
            break
        loss = engine(**batch).loss
        engine.backward(loss)
        is_update = engine.is_gradient_accumulation_boundary()
        engine.step()
        if is_update:
            table.writerow([engine.global_steps, float(loss)])
            logging.info("step %d", engine.global_steps)
            tiny.note(engine.global_steps, engine.get_lr()[0], float(loss), engine.train_batch_size())
            if writer:
                writer.add_scalar("loss", float(loss), engine.global_steps)
engine.save_checkpoint("work/saved")
