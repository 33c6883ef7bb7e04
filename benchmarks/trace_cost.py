"""How much CPU time one trace takes: models of many layers, of many experts, and of layers of several kinds.

python benchmarks/trace_cost.py [--tokens 4096] [--date 2026-11-21] [MODEL ...]

Prints one JSON object. Each model is traced in a process of its own, which has imported everything before: one row, all
parameters trained, bf16, for a GPU. `with_packages` has the kernels of linear attention and state spaces where a model
has such layers. A configuration without weights is all that this takes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from _machine import add_date, header

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.trace import MicroStep
from autofit.worker.model.kernel_packages import KERNEL_FUNCTIONS

_GLM = {
    "num_hidden_layers": 92, "hidden_size": 5120, "num_attention_heads": 96, "num_key_value_heads": 8, "head_dim": 128,
    "n_routed_experts": 160, "first_k_dense_replace": 3, "intermediate_size": 12288, "moe_intermediate_size": 1536,
}  # fmt: skip
_LLAMA = {
    "num_hidden_layers": 120, "hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128,
    "num_key_value_heads": 8, "vocab_size": 128256,
}  # fmt: skip
_QWEN = {
    "num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
    "moe_intermediate_size": 768,
}  # fmt: skip
_FALCON = {
    "num_hidden_layers": 72, "hidden_size": 5120, "intermediate_size": 21504, "num_attention_heads": 20,
    "num_key_value_heads": 4, "mamba_d_ssm": 10240, "mamba_n_heads": 32, "mamba_d_head": 320, "mamba_n_groups": 2,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any], Attention]] = {
    "llama-405b, 120 layers": ("LlamaConfig", _LLAMA, Attention.SDPA),
    "gpt-oss-20b": ("GptOssConfig", {"num_hidden_layers": 24, "num_local_experts": 32}, Attention.EAGER),
    "gpt-oss-120b": ("GptOssConfig", {}, Attention.EAGER),
    "qwen3-30b-a3b": ("Qwen3MoeConfig", _QWEN, Attention.SDPA),
    "deepseek-v3": ("DeepseekV3Config", {}, Attention.SDPA),
    "glm-4.5": ("Glm4MoeConfig", _GLM, Attention.SDPA),
    "qwen3-next-80b": ("Qwen3NextConfig", {}, Attention.SDPA),
    "jamba-mini": ("JambaConfig", {}, Attention.SDPA),
    "zamba2-2.7b": ("Zamba2Config", {}, Attention.SDPA),
    "bamba-9b": ("BambaConfig", {"attn_layer_indices": [9, 18, 27]}, Attention.SDPA),
    "falcon-h1-34b": ("FalconH1Config", _FALCON, Attention.SDPA),
    "mamba-codestral-7b": ("Mamba2Config", {}, Attention.EAGER),
    "lfm2-1.2b": ("Lfm2Config", {}, Attention.SDPA),
    "gemma-3n": ("Gemma3nTextConfig", {}, Attention.SDPA),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(MODELS), help=", ".join(MODELS))
    parser.add_argument("--tokens", type=int, default=4096, help="the width of the row")
    add_date(parser)
    options = parser.parse_args()
    body = header("trace_cost", options.date) | {"tokens": options.tokens}
    figures = {name: cost_of(name, options.tokens) for name in options.models}
    print(json.dumps(body | {"models": figures}, indent=2))


def cost_of(name: str, tokens: int) -> dict[str, Any]:
    """The figures of one model, from a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(name, tokens, theirs))
    process.start()
    theirs.close()
    figures: dict[str, Any] = ours.recv()
    process.join()
    return figures


def _measure(name: str, tokens: int, answer: Connection) -> None:
    import transformers

    from autofit.worker.trace.micro_step_trace import trace

    class_name, sizes, attention = MODELS[name]
    config = getattr(transformers, class_name)(**sizes)
    plain = MicroStep(None, attention, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CUDA, 1, tokens, False, (9, 0))
    figures: dict[str, Any] = {}
    for label, step in {
        "plain": plain,
        "with_packages": replace(plain, kernel_packages=tuple(KERNEL_FUNCTIONS)),
    }.items():
        began_s = time.process_time()
        said = trace(config, step)
        spent_s = time.process_time() - began_s
        peak_bytes = max(moment.activations_bytes for moment in said.moments)
        figures[label] = {"cpu_s": round(spent_s, 1), "peak_gb": round(peak_bytes / 1e9, 2)}
    answer.send({"parameter_count": said.parameter_count, **figures})


if __name__ == "__main__":
    main()
