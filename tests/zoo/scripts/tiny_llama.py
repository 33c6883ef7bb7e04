"""A model of Hugging Face's, and the log of a trainer's steps."""

import tiny
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=tiny.VOCABULARY, max_position_embeddings=tiny.LENGTH, **sizes))


class Notes(TrainerCallback):
    """Notes each step, by what the trainer logs of it."""

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            rows_of_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
            tiny.note(state.global_step, logs["learning_rate"], logs["loss"], rows_of_step)
