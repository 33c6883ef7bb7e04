"""The only room that imports torch, deepspeed, transformers, peft, trl and datasets."""
