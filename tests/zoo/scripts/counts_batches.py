"""A loop that counts its batches, and knows nothing of accumulation; the schedule is turned by hand."""

import argparse

import deepspeed
import tiny
import torch
from torch.utils.data import DataLoader, DistributedSampler

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--batches", type=int)
parser.add_argument("--deepspeed_config")
options = parser.parse_args()
deepspeed.init_distributed()
model = tiny.model()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
engine, optimizer, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=options.deepspeed_config)
data = tiny.rows(2048)
loader = DataLoader(data, engine.train_micro_batch_size_per_gpu(), sampler=DistributedSampler(data, shuffle=False))
for number, batch in enumerate(loader):
    if number == options.batches:
        break
    loss = engine(input_ids=batch["input_ids"], labels=batch["labels"]).loss
    engine.backward(loss)
    engine.step()
    tiny.note(number + 1, optimizer.param_groups[0]["lr"], float(loss), engine.train_batch_size())
torch.save({"batches": number}, f"state-{torch.distributed.get_rank()}.pt")
