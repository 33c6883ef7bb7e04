"""Writes the weights of the tiny Llama in examples/tiny-llama: random, from a seed, the same ones each time.

python examples/make_tiny_model.py               write model.safetensors unless it is there already
python examples/make_tiny_model.py --tokenizer   train the tokenizer anew on the dialogues, too
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODEL = HERE / "tiny-llama"
WEIGHTS = MODEL / "model.safetensors"
SEED = 42
SPECIAL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def are_whole(weights: Path) -> bool:
    """Whether the weights are those of this configuration, and the file as long as its own header says."""
    header, header_bytes = _header(weights)
    metadata = header.pop("__metadata__", {})
    ends = [tensor["data_offsets"][1] for tensor in header.values()]
    is_complete = bool(ends) and weights.stat().st_size == 8 + header_bytes + max(ends)
    return is_complete and metadata.get("config") == _config_digest()


def _header(weights: Path) -> tuple[dict[str, dict], int]:
    """The header of a safetensors file and its length; empty where there is none."""
    content = weights.read_bytes() if weights.exists() else b""
    header_bytes = int.from_bytes(content[:8], "little")
    try:
        return json.loads(content[8 : 8 + header_bytes]), header_bytes
    except ValueError:
        return {}, 0


def _config_digest() -> str:
    return hashlib.sha256((MODEL / "config.json").read_bytes()).hexdigest()


def write_weights() -> None:
    # Imported here: on its second run this script should cost nothing.
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(MODEL), dtype=torch.float32)
    # Not save_pretrained: it would rewrite the committed config.json in the words of the transformers at hand.
    partial = WEIGHTS.with_suffix(".part")
    save_file(model.state_dict(), partial, metadata={"format": "pt", "config": _config_digest()})
    os.replace(partial, WEIGHTS)


def train_tokenizer() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    config = json.loads((MODEL / "config.json").read_text("utf-8"))
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config["vocab_size"],
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    bos = SPECIAL_TOKENS["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    tokenizer.save(str(MODEL / "tokenizer.json"), pretty=False)
    _write_json(
        MODEL / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            **SPECIAL_TOKENS,
        },
    )


def _texts() -> list[str]:
    """What the model will be trained on; eval rows stay unseen here as well."""
    rows = [json.loads(line) for line in (HERE / "dialogues.jsonl").read_text("utf-8").splitlines()]
    return [row["prompt"] + row["completion"] for row in rows]


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokenizer", action="store_true", help="train the tokenizer anew on the dialogues")
    if parser.parse_args(arguments).tokenizer:
        train_tokenizer()
    if are_whole(WEIGHTS):
        print(f"{WEIGHTS.relative_to(HERE.parent)} is there already")
        return 0
    write_weights()
    print(f"wrote {WEIGHTS.relative_to(HERE.parent)}, {WEIGHTS.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
