"""A plain DeepSpeed training of the benchmark's model, as its autotuner wants one; started by `deepspeed`.

It holds the same memory limit by the same means as autofit's ranks, so that what does not fit there does not fit here.
"""

from __future__ import annotations

import argparse
import base64
import json
from typing import Any

import deepspeed
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from autofit.worker.rank.memory_meter import CpuMeter

STEPS = 8  # the profile window ends after the fifth


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--local_rank", type=int, default=0)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seq", type=int, required=True)
    parser.add_argument("--limit-bytes", type=int, required=True)
    options = deepspeed.add_config_arguments(parser).parse_args()
    meter = CpuMeter()
    meter.cap(options.limit_bytes)
    deepspeed.init_distributed("gloo")
    config = AutoConfig.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    meter.mark()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    ds_config = _with_small_buckets(options.deepspeed_config, config.hidden_size**2)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=ds_config)
    meter.mark()
    for _ in range(STEPS * engine.gradient_accumulation_steps()):
        ids = torch.randint(config.vocab_size, (engine.train_micro_batch_size_per_gpu(), options.seq))
        engine.backward(engine(input_ids=ids, labels=ids).loss)
        engine.step()
        meter.mark()


def _with_small_buckets(encoded: str, element_count: int) -> dict[str, Any]:
    """The experiment's configuration. The autotuner drops bucket sizes; the defaults' 1 GB would leave no room here."""
    config: dict[str, Any] = json.loads(base64.urlsafe_b64decode(encoded))
    config["zero_optimization"] |= {"reduce_bucket_size": element_count, "allgather_bucket_size": element_count}
    return config


if __name__ == "__main__":
    main()
