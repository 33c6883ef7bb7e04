"""Merges an adapter into its base model on the CPU and saves the whole; started with -m once the training is over."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from peft import PeftModel
from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from autofit.domain.knobs.dtype import Dtype
from autofit.worker.model.loading import load_model, load_tokenizer
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES


def merge(base: str, adapter: Path, out: Path, dtype: torch.dtype, *, trust_remote_code: bool) -> None:
    """Writes base + adapter to `out`, all of it in `dtype`: the host holds the base model once."""
    model = load_model(base, dtype=dtype, trust_remote_code=trust_remote_code)
    merged = PeftModel.from_pretrained(model, str(adapter), torch_device="cpu").merge_and_unload()
    if (adapter / GENERATION_CONFIG_NAME).is_file():  # the training may have found where a turn ends
        merged.generation_config = GenerationConfig.from_pretrained(str(adapter))
    merged.save_pretrained(str(out))
    load_tokenizer(str(adapter), trust_remote_code=trust_remote_code).save_pretrained(str(out))


def main() -> None:
    parser = argparse.ArgumentParser(description="Merges an adapter into its base model.")
    parser.add_argument("--base", required=True, help="local folder or hub id")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", choices=[dtype.value for dtype in Dtype], required=True)
    parser.add_argument("--trust-remote-code", action="store_true")
    options = parser.parse_args()
    dtype, trust_remote_code = TORCH_DTYPES[Dtype(options.dtype)], options.trust_remote_code
    merge(options.base, options.adapter, options.out, dtype, trust_remote_code=trust_remote_code)


if __name__ == "__main__":
    main()
