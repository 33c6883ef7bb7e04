"""A user's script in many ways: `--count` is what ends its loop. It says how many optimizer steps it took, and with
which learning rate the last."""

import argparse
import json

import deepspeed
import torch
from torch.utils.data import TensorDataset
from transformers import Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", type=int)
parser.add_argument("--count")
parser.add_argument("--rows", type=int, default=160)
parser.add_argument("--deepspeed_config")
parser.add_argument("--per_device_train_batch_size", type=int)
parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
options = parser.parse_args()


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def forward(self, x):
        return {"loss": self.layer(x).pow(2).mean()}


def say(steps, rate):
    print(json.dumps({"steps": steps, "last_rate": rate}), flush=True)


def with_trainer():
    arguments = TrainingArguments(
        "out",
        deepspeed=options.deepspeed_config,
        per_device_train_batch_size=options.per_device_train_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        num_train_epochs=2,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    rows = [{"x": torch.ones(8)} for _ in range(options.rows)]
    trainer = Trainer(Model(), arguments, train_dataset=rows)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    say(trainer.state.global_step, rates[-1])


def epochs(loader, count):
    for _ in range(count):
        yield from loader


def batches(engine, loader):
    """What the loop takes, by how it counts."""
    endless = epochs(loader, 10**6)
    if options.count == "batches":
        for _ in range(10):
            yield next(endless)
    elif options.count == "steps":
        while engine.global_steps < 10:
            yield next(endless)
    else:
        yield from epochs(loader, 2)


def with_a_loop():
    model = Model()
    engine, _, loader, _ = deepspeed.initialize(
        options, model, model_parameters=model.parameters(), training_data=TensorDataset(torch.ones(options.rows, 8))
    )
    rate = None
    for (rows,) in batches(engine, loader):
        loss = engine(rows.to(engine.device))["loss"]
        engine.backward(loss)
        is_whole_step = options.count == "boundary" and engine.is_gradient_accumulation_boundary()
        rate = engine.get_lr()[0]
        engine.step()
        if is_whole_step or options.count != "boundary":
            print("step", engine.global_steps, rate)
    say(engine.global_steps, rate)


with_trainer() if options.count == "trainer" else with_a_loop()
