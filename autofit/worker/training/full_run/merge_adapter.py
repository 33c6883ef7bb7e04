"""Merges an adapter into its base model on the CPU and saves the whole; started with -m once the training is over."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from autofit.domain.knobs.dtype import Dtype
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES


def merge(base: str, adapter: Path, out: Path, dtype: torch.dtype) -> None:
    """Writes base + adapter to `out`, all of it in `dtype`: the host holds the base model once."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    merged = PeftModel.from_pretrained(model, str(adapter), torch_device="cpu").merge_and_unload()
    if (adapter / GENERATION_CONFIG_NAME).is_file():  # the training may have found where a turn ends
        merged.generation_config = GenerationConfig.from_pretrained(str(adapter))
    merged.save_pretrained(str(out))
    AutoTokenizer.from_pretrained(str(adapter)).save_pretrained(str(out))


def main() -> None:
    parser = argparse.ArgumentParser(description="Merges an adapter into its base model.")
    parser.add_argument("--base", required=True, help="local folder or hub id")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", choices=[dtype.value for dtype in Dtype], required=True)
    options = parser.parse_args()
    merge(options.base, options.adapter, options.out, TORCH_DTYPES[Dtype(options.dtype)])


if __name__ == "__main__":
    main()
