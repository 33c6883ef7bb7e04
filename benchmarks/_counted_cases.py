"""Models of 0.1B to 70B parameters, and the strategies whose memory is predicted and counted on them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.model import ModelFacts
from autofit.domain.request import Lora, Request
from autofit.domain.strategy import Rung, Strategy
from autofit.hardware.machine_spec import parse_machine
from autofit.inputs.model_config import described_shape
from autofit.planning.setting import Setting

LORA_R = 16
GB = 10**9


def _llama(hidden: int, wide: int, layers: int, heads: int, key_value_heads: int) -> dict[str, object]:
    return {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": wide, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": key_value_heads, "vocab_size": 32000,
        "max_position_embeddings": 16384, "tie_word_embeddings": False,
    }  # fmt: skip


MODELS: dict[str, dict[str, object]] = {
    "Llama-0.1B": _llama(768, 2048, 12, 12, 12),
    "TinyLlama-1.1B": _llama(2048, 5632, 22, 32, 4),
    "Llama-7B": _llama(4096, 11008, 32, 32, 32),
    "Llama-13B": _llama(5120, 13824, 40, 40, 40),
    "Llama-65B": _llama(8192, 22016, 80, 64, 64),
    "Llama-70B": _llama(8192, 28672, 80, 64, 8),
    "Qwen2-0.5B": {
        "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    "Gemma-2B": {
        "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
        "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000,
        "max_position_embeddings": 8192,
    },
    "Mixtral-8x7B": {
        "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
        "num_experts_per_tok": 2, "max_position_embeddings": 32768, "tie_word_embeddings": False,
    },
    "Falcon-7B": {
        "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
        "vocab_size": 65024, "multi_query": True, "parallel_attn": True, "bias": False, "alibi": False,
    },
    "MPT-30B": {
        "model_type": "mpt", "d_model": 7168, "n_heads": 64, "n_layers": 48, "vocab_size": 50432, "max_seq_len": 8192,
    },
    "OPT-6.7B": {
        "model_type": "opt", "hidden_size": 4096, "ffn_dim": 16384, "num_hidden_layers": 32, "num_attention_heads": 32,
        "vocab_size": 50272, "word_embed_proj_dim": 4096, "max_position_embeddings": 2048,
    },
    "Pythia-6.9B": {
        "model_type": "gpt_neox", "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32,
        "num_attention_heads": 32, "vocab_size": 50432, "max_position_embeddings": 2048,
    },
    "GPT2-XL": {
        "model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024, "vocab_size": 50257,
    },
}  # fmt: skip


@dataclass(frozen=True)
class CountedCase:
    """`machine` as `--on` takes it; the data's rows are all `tokens` long."""

    model: str
    machine: str
    zero_stage: int
    offload: Offload = Offload.NONE
    method: Method = Method.FULL
    gradient_checkpointing: GradientCheckpointing = GradientCheckpointing.ON
    attention: Attention = Attention.SDPA
    micro_batch: int = 1
    gradient_accumulation: int = 1
    tokens: int = 1024
    optimizer: Optimizer = Optimizer.ADAMW
    limit_gb: float | None = None  # of a device's memory

    def __str__(self) -> str:
        return f"{self.model} {self.strategy} acc{self.gradient_accumulation} {self.machine} s{self.tokens}"

    @property
    def strategy(self) -> Strategy:
        rung = Rung(
            method=self.method,
            zero_stage=self.zero_stage,
            offload=self.offload,
            gradient_checkpointing=self.gradient_checkpointing,
            attention=self.attention,
            dtype=Dtype.BF16,
            optimizer=self.optimizer,
        )
        return Strategy(rung, self.micro_batch, self.gradient_accumulation)

    def counted_ranks(self) -> tuple[int, ...]:
        """The ranks that are run: under ZeRO-3 all are alike, below it the first and the last one differ most. Where
        ZeRO-2 adds up gradients on the host, each rank of a node keeps other tensors whole."""
        hardware = parse_machine(self.machine)
        if self.zero_stage == 3:
            return (0,)
        if self.zero_stage == 2 and self.offload is not Offload.NONE and self.gradient_accumulation > 1:
            return tuple(range(len(hardware.nodes[0].devices)))
        return (0, hardware.rank_count - 1)

    def request(self, folder: Path) -> Request:
        ranks = parse_machine(self.machine).rank_count
        rows = ranks * self.micro_batch * self.gradient_accumulation
        return Request(str(folder), self.tokens, global_batch=rows, lora=Lora(r=LORA_R))

    def setting(self, folder: Path, facts: ModelFacts) -> Setting:
        request = self.request(folder)
        shape = described_shape(request.model, facts)
        limit_bytes = None if self.limit_gb is None else round(self.limit_gb * GB)
        hardware = replace(parse_machine(f"{self.machine},host=4TB"), memory_limit_bytes=limit_bytes)
        return Setting(request, hardware, shape, self.tokens, facts=facts)


def write_config(model: str, folder: Path) -> None:
    """A folder with nothing but a config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODELS[model]))


_NONE, _PARTIAL, _OPTIMIZER, _ALL = Offload.NONE, Offload.PARTIAL, Offload.OPTIMIZER, Offload.ALL
_LORA, _EAGER = Method.LORA, Attention.EAGER
_STAGES = ((1, _NONE), (2, _NONE), (3, _NONE), (1, _OPTIMIZER), (2, _OPTIMIZER), (3, _OPTIMIZER), (3, _ALL))


def counted_cases() -> tuple[CountedCase, ...]:
    return (*_every_stage(), *_families(), *_beyond_a_size(), *_divided_optimizers(), *_fused())


def _every_stage() -> list[CountedCase]:
    """Each stage with each offload, full and LoRA, on models whose peak lies in other phases: the step's where rows are
    short, the backward pass's where they are long."""
    chosen = []
    for i, (stage, offload) in enumerate(_STAGES):
        accumulation = 1 + i % 2
        chosen += [
            CountedCase("Llama-7B", "8xA100-80GB", stage, offload, tokens=256, gradient_accumulation=accumulation),
            CountedCase("Llama-7B", "8xA100-80GB", stage, offload, _LORA, tokens=2048),
            CountedCase("TinyLlama-1.1B", "2xA100-80GB", stage, offload, gradient_accumulation=3 - accumulation),
            CountedCase(
                "TinyLlama-1.1B",
                "8x8xA100-80GB",
                stage,
                offload,
                gradient_checkpointing=GradientCheckpointing.OFF,
                micro_batch=2,
                gradient_accumulation=accumulation,
                tokens=2048,
            ),
            CountedCase("Llama-0.1B", "2xA100-40GB", stage, offload, micro_batch=4, gradient_accumulation=4),
            CountedCase(
                "Llama-0.1B",
                "8xA100-40GB",
                stage,
                offload,
                _LORA,
                gradient_checkpointing=GradientCheckpointing(i % 2 == 0),
            ),
        ]
    return chosen


def _families() -> list[CountedCase]:
    """Large vocabularies, tied embeddings, experts, one head for all keys, learned positions and biases."""
    return [
        CountedCase("Qwen2-0.5B", "2xA100-40GB", 1, micro_batch=4),
        CountedCase("TinyLlama-1.1B", "1xA100-80GB", 1, tokens=512),
        CountedCase("Llama-7B", "1xA100-80GB", 1, _NONE, _LORA, tokens=512, gradient_accumulation=2),
        CountedCase("Qwen2-0.5B", "8xA100-40GB", 2, _OPTIMIZER, gradient_accumulation=2),
        CountedCase("Qwen2-0.5B", "64xA100-40GB", 3, gradient_checkpointing=GradientCheckpointing.OFF),
        CountedCase("Gemma-2B", "8xA100-80GB", 2, tokens=512),
        CountedCase("Gemma-2B", "8xA100-80GB", 3, _OPTIMIZER, tokens=4096),
        CountedCase(
            "Gemma-2B",
            "2xA100-80GB",
            1,
            _NONE,
            _LORA,
            gradient_checkpointing=GradientCheckpointing.OFF,
            gradient_accumulation=2,
        ),
        CountedCase("Falcon-7B", "8xA100-80GB", 2, _NONE, _LORA),
        CountedCase("Falcon-7B", "8xA100-80GB", 3, _ALL, gradient_accumulation=2),
        CountedCase("OPT-6.7B", "8xA100-80GB", 2, _OPTIMIZER, tokens=512),
        CountedCase("OPT-6.7B", "8xA100-80GB", 3, tokens=2048, micro_batch=2),
        CountedCase("GPT2-XL", "2xA100-80GB", 2, gradient_checkpointing=GradientCheckpointing.OFF, attention=_EAGER),
        CountedCase("GPT2-XL", "8xA100-80GB", 1, _OPTIMIZER, micro_batch=4),
        CountedCase("GPT2-XL", "8xA100-80GB", 3, _NONE, _LORA, micro_batch=8),
        CountedCase("Mixtral-8x7B", "8xA100-80GB", 3, _NONE, _LORA, tokens=2048),
        CountedCase("Mixtral-8x7B", "8x8xA100-80GB", 3),
        CountedCase("Mixtral-8x7B", "8xA100-80GB", 3, _ALL),
    ]


def _beyond_a_size() -> list[CountedCase]:
    """Where sub-groups, live parameters, persistence and buckets begin to matter."""
    return [
        CountedCase("MPT-30B", "8xA100-80GB", 3, attention=_EAGER, tokens=512),
        CountedCase("Pythia-6.9B", "4xA100-80GB", 3, tokens=512),
        CountedCase("Pythia-6.9B", "2xA100-80GB", 3, _OPTIMIZER, tokens=512),
        CountedCase("Llama-13B", "2xA100-80GB", 3, _OPTIMIZER, gradient_accumulation=2),
        CountedCase("Llama-13B", "8xA100-40GB", 3, micro_batch=2, tokens=2048),
        CountedCase("Llama-13B", "8xA100-40GB", 2, _OPTIMIZER, tokens=256),
        CountedCase("Llama-13B", "8xA100-80GB", 1, _NONE, _LORA, tokens=4096, gradient_accumulation=2),
        CountedCase("Llama-70B", "2xA100-80GB", 3, _ALL),
        CountedCase("Llama-70B", "8xA100-80GB", 3, _NONE, _LORA, tokens=4096),
        CountedCase("Llama-70B", "8xA100-80GB", 3, _OPTIMIZER, tokens=2048),
        CountedCase("Llama-70B", "8x8xA100-80GB", 3, tokens=2048),
    ]


def _fused() -> list[CountedCase]:
    """LOMO and AdaLomo, whose updates go chunk by chunk at such sizes."""
    lomo, adalomo = Optimizer.LOMO, Optimizer.ADALOMO
    return [
        CountedCase(
            "TinyLlama-1.1B",
            "2xRTX-3090",
            3,
            gradient_checkpointing=GradientCheckpointing.OFF,
            tokens=256,
            optimizer=lomo,
        ),
        CountedCase("Llama-7B", "2xRTX-3090", 3, gradient_accumulation=2, optimizer=adalomo),
        CountedCase("Llama-65B", "8xRTX-3090", 3, optimizer=lomo),
        CountedCase("Llama-65B", "8xRTX-3090", 3, tokens=128, optimizer=adalomo),
        CountedCase("Gemma-2B", "8xA100-80GB", 3, tokens=512, optimizer=adalomo),
        CountedCase("Mixtral-8x7B", "8xA100-80GB", 3, optimizer=adalomo),
        CountedCase("GPT2-XL", "64xA100-40GB", 3, micro_batch=2, optimizer=lomo),
    ]


def _divided_optimizers() -> list[CountedCase]:
    """A small and a large share of the optimizer on the device, the embeddings larger than a layer and smaller,
    accumulation, experts; partitions above and below the size of DeepSpeed's own sub-groups."""
    return [
        CountedCase("Llama-0.1B", "2xRTX-3090", 3, _PARTIAL, limit_gb=3.6),
        CountedCase("Qwen2-0.5B", "2xRTX-3090", 3, _PARTIAL, tokens=512, limit_gb=7),
        CountedCase("TinyLlama-1.1B", "2xRTX-3090", 3, _PARTIAL, limit_gb=10),
        CountedCase("TinyLlama-1.1B", "2xT4", 3, _PARTIAL, gradient_accumulation=2, tokens=512),
        CountedCase("GPT2-XL", "2xRTX-3090", 3, _PARTIAL, tokens=512, limit_gb=16),
        CountedCase("Gemma-2B", "2xRTX-3090", 3, _PARTIAL, tokens=512),
        CountedCase("Llama-7B", "8xRTX-3090", 3, _PARTIAL, micro_batch=2, tokens=2048),
        CountedCase("Llama-7B", "4xRTX-4090", 3, _PARTIAL, gradient_accumulation=2, tokens=512),
        CountedCase(
            "Llama-7B", "2xA100-80GB", 3, _PARTIAL, gradient_checkpointing=GradientCheckpointing.OFF, limit_gb=60
        ),
        CountedCase("Falcon-7B", "8xRTX-3090", 3, _PARTIAL, tokens=512),
        CountedCase("Pythia-6.9B", "4xV100-32GB", 3, _PARTIAL, tokens=512),
        CountedCase("Llama-13B", "8xA100-40GB", 3, _PARTIAL),
        CountedCase("Llama-13B", "4xA100-40GB", 3, _PARTIAL, tokens=2048),
        CountedCase("Mixtral-8x7B", "8xA100-80GB", 3, _PARTIAL, tokens=512),
    ]
