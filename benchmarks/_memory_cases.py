"""Tiny models of many architectures, and the strategies whose memory is predicted and measured on them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from autofit.domain.hardware import Device, DeviceKind, Hardware, Host, Link, Node
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.request import Generation, Lora, Request, Reward, Training
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.task import Task
from autofit.inputs.model_files import read_model_files
from autofit.planning.setting import Setting

TOKENIZER = Path(__file__).resolve().parents[1] / "examples" / "tiny-llama"
LORA_R = 8
ANSWERS = 2  # to each prompt, where they are generated
REWARD = "reward"  # the folder, within a model's, of one of its architecture that rewards answers
GB = 10**9

_LLAMA: dict[str, object] = {
    "vocab_size": 2048, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
}  # fmt: skip
_WHOLE_HEADS = {name: value for name, value in _LLAMA.items() if name != "num_key_value_heads"}
_SMALL_GPT2: dict[str, object] = {
    "vocab_size": 2048, "n_embd": 192, "n_layer": 4, "n_head": 6, "n_positions": 512, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 3,
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    model_type: str
    values: dict[str, object]
    targets: tuple[str, ...] = ("q_proj", "v_proj")  # of LoRA


ARCHITECTURES = {
    "Llama": Architecture("llama", _LLAMA),
    "Mistral": Architecture("mistral", _LLAMA | {"sliding_window": None}),
    "Qwen2": Architecture("qwen2", _LLAMA | {"tie_word_embeddings": True}),
    "Qwen3": Architecture("qwen3", _LLAMA | {"head_dim": 32}),
    "Gemma": Architecture("gemma", _LLAMA | {"head_dim": 32}),
    "Phi": Architecture("phi", _LLAMA),
    "GPT-NeoX": Architecture("gpt_neox", _WHOLE_HEADS, ("query_key_value",)),
    "GPT-2": Architecture("gpt2", _SMALL_GPT2, ("c_attn",)),
    "Falcon": Architecture("falcon", _WHOLE_HEADS, ("query_key_value",)),
    "OPT": Architecture("opt", _WHOLE_HEADS | {"ffn_dim": 512, "word_embed_proj_dim": 192}),
    "Mixtral": Architecture("mixtral", _LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2}),
}


@dataclass(frozen=True)
class Case:
    architecture: str
    rank_count: int
    zero_stage: int
    method: Method = Method.FULL
    gradient_checkpointing: GradientCheckpointing = GradientCheckpointing.OFF
    attention: Attention = Attention.SDPA
    micro_batch: int = 1
    gradient_accumulation: int = 1
    tokens: int = 128
    dtype: Dtype = Dtype.BF16
    is_padded: bool = False
    quantization: Quantization = Quantization.NONE
    optimizer: Optimizer = Optimizer.ADAMW
    task: Task = Task.SFT
    completion_tokens: int | None = None  # of `tokens`, where answers are generated
    has_reward_model: bool = False  # rewards answers in place of a function
    beta: float = 0.0  # how much the distance of generated answers from a reference counts

    def __str__(self) -> str:
        rung = str(self.strategy) if self.task is Task.SFT else f"{self.task.value} {self.strategy}"
        rows = " padded" if self.is_padded else ""
        beside = (" reward model" if self.has_reward_model else "") + (f" beta{self.beta:g}" if self.beta else "")
        sizes = f"acc{self.gradient_accumulation} W{self.rank_count} s{self.tokens}"
        return f"{self.architecture} {rung} {sizes}{rows}{beside}"

    @property
    def strategy(self) -> Strategy:
        rung = Rung(
            method=self.method,
            zero_stage=self.zero_stage,
            offload=Offload.NONE,
            gradient_checkpointing=self.gradient_checkpointing,
            attention=self.attention,
            dtype=self.dtype,
            quantization=self.quantization,
            optimizer=self.optimizer,
        )
        return Strategy(rung, self.micro_batch, self.gradient_accumulation)

    def request(self, folder: Path) -> Request:
        rows = self.rank_count * self.micro_batch * self.gradient_accumulation
        lora = Lora(r=LORA_R, target_modules=ARCHITECTURES[self.architecture].targets)
        reward = Reward(str(folder / REWARD) if self.has_reward_model else "rewards:any")
        generation = Generation(ANSWERS, self.completion_tokens, (reward,))
        return Request(
            str(folder),
            self.tokens,
            self.task,
            generation=generation if self.task.traits.generates else Generation(),
            global_batch=rows,
            lora=lora,
            training=Training(extra_arguments=("--beta", str(self.beta)) if self.beta else ()),
        )

    def setting(self, folder: Path) -> Setting:
        """On as many CPU ranks of one node."""
        devices = tuple(Device(DeviceKind.CPU, i, "CPU", None, None, 64 * GB, 64 * GB) for i in range(self.rank_count))
        hardware = Hardware((Node(Host("node", 64, 64 * GB, 64 * GB, 64 * GB), devices, Link.HOST),))
        request, shape = self.request(folder), read_model_files(str(folder)).shape
        rewarding = (read_model_files(str(folder / REWARD)).shape,) if self.has_reward_model else ()
        return Setting(request, hardware, shape, self.tokens, self.is_padded, reward_models=rewarding)

    def fields(self) -> dict[str, object]:
        return {name: getattr(value, "value", value) for name, value in asdict(self).items()}


def make_model(name: str, folder: Path) -> None:
    """A folder with config, tokenizer and weights, and within it one of a reward model; in a process that may import
    torch."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    architecture = ARCHITECTURES[name]
    config = AutoConfig.for_model(architecture.model_type, **architecture.values)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    scoring = AutoConfig.for_model(architecture.model_type, **architecture.values, num_labels=1)
    AutoModelForSequenceClassification.from_config(scoring, dtype=torch.bfloat16).save_pretrained(folder / REWARD)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / file, folder / file)
    assert json.loads((folder / "config.json").read_text())["model_type"] == architecture.model_type


def cases() -> tuple[Case, ...]:
    """Every architecture in turn meets each stage, number of ranks and knob; none of them all at once."""
    lora, eager = Method.LORA, Attention.EAGER
    chosen: list[Case] = []
    for i, name in enumerate(ARCHITECTURES):
        ranks = [(2, 8, 64)[(i + shift) % 3] for shift in range(3)]
        chosen += [
            Case(name, ranks[0], 1, gradient_accumulation=1 + i % 2),
            Case(name, ranks[1], 2, gradient_accumulation=1 + (i + 1) % 2),
            Case(name, ranks[2], 3, gradient_accumulation=1 + i % 2),
            Case(name, ranks[0], 2, lora, gradient_accumulation=2),
            Case(name, ranks[1], 3, lora, gradient_checkpointing=GradientCheckpointing(i % 2 == 0)),
            Case(name, ranks[2], 1 + i % 3, gradient_checkpointing=GradientCheckpointing.ON, micro_batch=2),
            Case(name, ranks[0], 1 + (i + 1) % 3, attention=eager, micro_batch=2, is_padded=True),
        ]
    chosen += [
        Case("Llama", ranks, stage, tokens=32, gradient_accumulation=accumulation)
        for ranks in (2, 8, 64)
        for stage in (1, 2, 3)
        for accumulation in (1, 3)
    ]
    chosen += [Case("Qwen2", 8, stage, dtype=Dtype.FP32) for stage in (1, 2, 3)]
    return (
        *chosen,
        *_plain_cases(),
        *_optimizer_cases(),
        *_fused_cases(),
        *_quantized_cases(),
        *_between_cases(),
        *_preference_cases(),
        *_generation_cases(),
        *_reward_cases(),
    )


def _reward_cases() -> tuple[Case, ...]:
    """Reward models in each stage, whose head is trained beside adapters, too."""
    on, lora, reward = GradientCheckpointing.ON, Method.LORA, Task.REWARD
    return (
        Case("Llama", 2, 1, task=reward),
        Case("Qwen2", 8, 2, gradient_accumulation=2, task=reward),
        Case("Mistral", 2, 3, micro_batch=2, is_padded=True, task=reward),
        Case("Llama", 2, 0, gradient_accumulation=2, task=reward),
        Case("OPT", 2, 1, gradient_checkpointing=on, micro_batch=2, task=reward),
        Case("OPT", 8, 3, task=reward),
        Case("Qwen3", 64, 3, gradient_checkpointing=on, micro_batch=4, task=reward),
        Case("GPT-2", 8, 2, attention=Attention.EAGER, micro_batch=2, is_padded=True, task=reward),
        Case("GPT-NeoX", 64, 2, micro_batch=2, task=reward),
        Case("Mixtral", 8, 2, gradient_checkpointing=on, task=reward),
        Case("Llama", 2, 1, lora, gradient_accumulation=2, task=reward),
        Case("Qwen2", 8, 2, lora, gradient_checkpointing=on, micro_batch=4, task=reward),
        Case("Llama", 2, 3, lora, micro_batch=2, task=reward),
        Case("OPT", 8, 3, lora, gradient_checkpointing=on, task=reward),
        Case("Llama", 2, 0, lora, micro_batch=2, task=reward),
        Case("Llama", 2, 3, lora, quantization=Quantization.NF4, task=reward),
        Case("GPT-2", 8, 2, lora, quantization=Quantization.INT8, gradient_checkpointing=on, task=reward),
        Case("Llama", 2, 0, optimizer=Optimizer.LOMO, task=reward),
        Case("Qwen2", 8, 3, optimizer=Optimizer.ADALOMO, gradient_accumulation=2, task=reward),
        Case("GPT-NeoX", 8, 3, gradient_checkpointing=on, micro_batch=2, optimizer=Optimizer.LOMO, task=reward),
    )


def _preference_cases() -> tuple[Case, ...]:
    """DPO and KTO beside a reference in each stage, and with its adapter switched off, on quantised bases, too."""
    on, lora, nf4 = GradientCheckpointing.ON, Method.LORA, Quantization.NF4
    dpo, kto = Task.DPO, Task.KTO
    return (
        Case("Llama", 2, 1, task=dpo),
        Case("Qwen2", 8, 2, gradient_accumulation=2, task=dpo),
        Case("GPT-NeoX", 8, 3, task=dpo),
        Case("Llama", 2, 0, task=dpo),
        Case("Mistral", 1, 0, gradient_checkpointing=on, gradient_accumulation=2, task=dpo),
        Case("Qwen3", 64, 2, gradient_checkpointing=on, micro_batch=2, task=dpo),
        Case("Llama", 2, 3, gradient_checkpointing=on, gradient_accumulation=2, task=dpo),
        Case("Gemma", 8, 3, attention=Attention.EAGER, micro_batch=2, is_padded=True, task=dpo),
        Case("OPT", 8, 1, tokens=32, task=dpo),
        Case("Llama", 64, 3, tokens=32, task=dpo),
        Case("Mixtral", 8, 2, micro_batch=2, gradient_checkpointing=GradientCheckpointing.EVERY_2, task=dpo),
        Case("Llama", 2, 1, lora, gradient_accumulation=2, task=dpo),
        Case("GPT-2", 8, 2, lora, gradient_checkpointing=on, micro_batch=2, task=dpo),
        Case("Llama", 8, 3, lora, gradient_checkpointing=on, task=dpo),
        Case("Qwen2", 2, 3, lora, task=dpo),
        Case("Phi", 2, 0, lora, task=dpo),
        Case("Llama", 2, 2, lora, quantization=nf4, task=dpo),
        Case("Qwen2", 8, 3, lora, gradient_checkpointing=on, quantization=nf4, task=dpo),
        Case("Llama", 1, 0, lora, gradient_checkpointing=on, quantization=nf4, task=dpo),
        Case("Qwen3", 8, 2, optimizer=Optimizer.ADAMW_8BIT_BF16, task=dpo),
        Case("GPT-2", 2, 0, tokens=32, optimizer=Optimizer.LOMO, task=dpo),
        Case("Qwen2", 8, 3, gradient_accumulation=2, optimizer=Optimizer.ADALOMO, task=dpo),
        Case("Llama", 8, 1, gradient_checkpointing=GradientCheckpointing.SELECTIVE, task=dpo),
        Case("Llama", 2, 2, micro_batch=2, task=kto),
        Case("Falcon", 8, 1, gradient_accumulation=2, micro_batch=2, task=kto),
        Case("Llama", 2, 3, micro_batch=2, task=kto),
        Case("Qwen3", 8, 3, gradient_checkpointing=on, micro_batch=4, tokens=64, task=kto),
        Case("GPT-NeoX", 2, 0, micro_batch=2, gradient_accumulation=2, task=kto),
        Case("OPT", 8, 2, gradient_checkpointing=on, micro_batch=2, is_padded=True, task=kto),
        Case("Llama", 8, 1, lora, gradient_checkpointing=on, micro_batch=4, task=kto),
        Case("Gemma", 2, 3, lora, micro_batch=2, task=kto),
        Case("Llama", 1, 0, lora, micro_batch=2, task=kto),
        Case("Mistral", 2, 3, micro_batch=2, optimizer=Optimizer.LOMO, task=kto),
    )


def _quantized_cases() -> tuple[Case, ...]:
    """A base in 4 and 8 bits in every stage, with checkpointing and without, of families whose linear layers differ:
    grouped heads, tied embeddings, biases, transposed weights."""
    nf4, int8, lora = Quantization.NF4, Quantization.INT8, Method.LORA
    return (
        Case("Llama", 2, 2, lora, quantization=nf4),
        Case("Llama", 8, 3, lora, gradient_checkpointing=GradientCheckpointing.ON, quantization=nf4),
        Case("Llama", 1, 0, lora, gradient_accumulation=2, quantization=nf4),
        Case("Llama", 2, 3, lora, tokens=32, quantization=int8),
        Case("Llama", 2, 1, lora, gradient_checkpointing=GradientCheckpointing.ON, micro_batch=2, quantization=int8),
        Case("Qwen2", 64, 3, lora, quantization=nf4),
        Case("Qwen2", 8, 2, lora, gradient_accumulation=2, quantization=int8),
        Case("Gemma", 8, 1, lora, gradient_checkpointing=GradientCheckpointing.ON, quantization=nf4),
        Case("Gemma", 2, 3, lora, quantization=int8),
        Case("GPT-NeoX", 2, 3, lora, gradient_checkpointing=GradientCheckpointing.ON, quantization=nf4),
        Case("GPT-NeoX", 64, 2, lora, quantization=int8),
        Case("GPT-2", 8, 2, lora, micro_batch=2, quantization=nf4),
        Case("Mistral", 2, 0, lora, gradient_checkpointing=GradientCheckpointing.ON, quantization=int8),
        Case("Qwen3", 8, 3, lora, gradient_checkpointing=GradientCheckpointing.ON, quantization=int8),
        Case("OPT", 1, 0, lora, quantization=int8),
        Case("Phi", 2, 1, lora, quantization=nf4),
    )


def _between_cases() -> tuple[Case, ...]:
    """Every second layer checkpointed, and attention's output kept, with each stage that has it; of adapters, too."""
    every_2, selective = GradientCheckpointing.EVERY_2, GradientCheckpointing.SELECTIVE
    chosen = []
    for i, name in enumerate(("Llama", "GPT-2", "Qwen3", "Mixtral", "Gemma")):
        lora, full = (Method.LORA, Method.FULL) if i % 2 else (Method.FULL, Method.LORA)
        chosen += [
            Case(name, 8, (3, 1, 2)[i % 3], lora, every_2, micro_batch=2),
            Case(name, 2, (1, 2, 3)[i % 3], full, every_2, gradient_accumulation=2),
            Case(name, 8, 1 + i % 2, lora, selective, micro_batch=2, gradient_accumulation=1 + i % 2),
            Case(name, 2, (0, 2, 1)[i % 3], full, selective, micro_batch=4, tokens=64),
        ]
    plain = Case("Llama", 2, 0, gradient_checkpointing=every_2, micro_batch=2)
    return (*chosen, plain, Case("Gemma", 64, 3, Method.LORA, every_2, micro_batch=2))


def _plain_cases() -> tuple[Case, ...]:
    """Every architecture by plain data parallel in turn full and with LoRA, on one rank and several, with accumulation
    and without."""
    chosen = []
    for i, name in enumerate(ARCHITECTURES):
        ranks, other = (1, 8) if i % 2 else (2, 1)
        chosen += [
            Case(name, ranks, 0, gradient_accumulation=1 + i % 3),
            Case(
                name,
                other,
                0,
                gradient_checkpointing=GradientCheckpointing.ON,
                micro_batch=2,
                gradient_accumulation=1 + (i + 1) % 3,
            ),
            Case(
                name,
                ranks,
                0,
                Method.LORA,
                gradient_accumulation=2,
                gradient_checkpointing=GradientCheckpointing(i % 2 == 0),
            ),
        ]
    short = [Case("Llama", ranks, 0, tokens=32, gradient_accumulation=steps) for ranks in (1, 2) for steps in (1, 2, 3)]
    others = [
        Case("Qwen2", 8, 0, dtype=Dtype.FP32),
        Case("Llama", 1, 0, dtype=Dtype.FP32, gradient_accumulation=2),
        Case("Llama", 2, 0, attention=Attention.EAGER, micro_batch=2, is_padded=True),
    ]
    return (*chosen, *short, *others)


def _optimizer_cases() -> tuple[Case, ...]:
    """Each lean optimizer in all that it works with, on families whose shares no block divides."""
    lora, short = Method.LORA, 32
    cases = []
    for i, optimizer in enumerate((Optimizer.ADAMW_8BIT, Optimizer.LION, Optimizer.SGD)):
        name = ("GPT-2", "Qwen2", "Mixtral")[i]
        cases += [
            Case("Llama", 2, 0, tokens=short, optimizer=optimizer),
            Case(name, 8, 1, tokens=short, optimizer=optimizer),
            Case("Llama", 2, 2, tokens=short, gradient_accumulation=2, optimizer=optimizer),
            Case(name, 8, 3, tokens=short, optimizer=optimizer),
            Case(name, 2, 2, lora, optimizer=optimizer),
            Case(name, 1, 0, lora, gradient_checkpointing=GradientCheckpointing.ON, optimizer=optimizer),
        ]
    for i, optimizer in enumerate((Optimizer.ADAMW_8BIT_BF16, Optimizer.ADAMW_4BIT_BF16)):
        name = ("GPT-2", "Mixtral")[i]
        cases += [
            Case(name, 2, 1, tokens=short, optimizer=optimizer),
            Case("Qwen3", 8, 2, tokens=short, gradient_accumulation=2, optimizer=optimizer),
            Case(name, 8, 3, tokens=short, optimizer=optimizer),
            Case("Llama", 64, 3, tokens=short, gradient_checkpointing=GradientCheckpointing.ON, optimizer=optimizer),
            Case(name, 8, 2, lora, optimizer=optimizer),
        ]
    return tuple(cases)


def _fused_cases() -> tuple[Case, ...]:
    """LOMO and AdaLomo on ZeRO-3's partitions and on whole parameters, where the loss has the peak (long rows) and
    where an update has it (short ones): tied embeddings and untied, experts, accumulation, groups of all sizes."""
    lomo, adalomo, short = Optimizer.LOMO, Optimizer.ADALOMO, 32
    return (
        Case("Llama", 8, 3, optimizer=lomo),
        Case("Llama", 2, 3, tokens=short, optimizer=lomo),
        Case("Llama", 2, 3, gradient_checkpointing=GradientCheckpointing.ON, optimizer=adalomo),
        Case("Llama", 64, 3, attention=Attention.EAGER, micro_batch=2, is_padded=True, optimizer=adalomo),
        Case("Llama", 1, 0, optimizer=lomo),
        Case("Llama", 8, 0, tokens=short, gradient_checkpointing=GradientCheckpointing.ON, optimizer=adalomo),
        Case("Llama", 2, 0, gradient_accumulation=3, optimizer=lomo),
        Case("Qwen2", 8, 3, gradient_accumulation=2, optimizer=lomo),
        Case("Qwen2", 2, 0, dtype=Dtype.FP32, optimizer=lomo),
        Case("Qwen2", 1, 0, tokens=short, gradient_checkpointing=GradientCheckpointing.ON, optimizer=adalomo),
        Case("Qwen3", 64, 3, dtype=Dtype.FP32, optimizer=adalomo),
        Case("GPT-2", 2, 3, gradient_accumulation=2, optimizer=lomo),
        Case("GPT-2", 64, 3, tokens=short, gradient_checkpointing=GradientCheckpointing.ON, optimizer=adalomo),
        Case("GPT-2", 2, 0, tokens=short, gradient_accumulation=2, optimizer=adalomo),
        Case("GPT-NeoX", 8, 3, gradient_checkpointing=GradientCheckpointing.ON, micro_batch=2, optimizer=adalomo),
        Case("Gemma", 8, 3, gradient_checkpointing=GradientCheckpointing.ON, optimizer=lomo),
        Case("Mistral", 64, 3, gradient_accumulation=3, optimizer=adalomo),
        Case("OPT", 8, 0, micro_batch=2, optimizer=lomo),
        Case("Phi", 1, 0, tokens=short, gradient_checkpointing=GradientCheckpointing.ON, optimizer=adalomo),
        Case("Falcon", 2, 3, tokens=short, optimizer=adalomo),
        Case("Falcon", 8, 3, optimizer=lomo),
        Case("Falcon", 8, 3, gradient_checkpointing=GradientCheckpointing.ON, optimizer=lomo),
        Case("Mixtral", 8, 3, optimizer=lomo),
        Case(
            "Mixtral", 2, 3, gradient_checkpointing=GradientCheckpointing.ON, gradient_accumulation=2, optimizer=adalomo
        ),
        Case("Mixtral", 64, 3, tokens=short, optimizer=lomo),
        Case("Mixtral", 2, 0, tokens=short, gradient_checkpointing=GradientCheckpointing.ON, optimizer=lomo),
    )


def _generation_cases() -> tuple[Case, ...]:
    """GRPO in each stage, of few answers and of many: accumulation makes a generation larger than its micro-steps. At
    last beside a reward model, and beside a reference."""
    on, lora, grpo = GradientCheckpointing.ON, Method.LORA, {"task": Task.GRPO, "completion_tokens": 64}
    return (
        Case("Llama", 2, 1, micro_batch=2, **grpo),
        Case("Qwen2", 8, 2, gradient_accumulation=4, **grpo),
        Case("Llama", 2, 3, micro_batch=2, **grpo),
        Case("GPT-NeoX", 8, 3, gradient_accumulation=8, **grpo),
        Case("Llama", 2, 0, micro_batch=2, **grpo),
        Case("Mistral", 1, 0, gradient_checkpointing=on, gradient_accumulation=16, micro_batch=2, **grpo),
        Case("Qwen3", 64, 2, gradient_checkpointing=on, micro_batch=2, gradient_accumulation=8, **grpo),
        Case("Llama", 8, 3, gradient_checkpointing=on, gradient_accumulation=32, **grpo),
        Case("Gemma", 8, 3, micro_batch=2, is_padded=True, **grpo),
        Case("OPT", 8, 1, gradient_accumulation=32, **grpo),
        Case("Llama", 2, 1, lora, gradient_accumulation=16, micro_batch=4, **grpo),
        Case("GPT-2", 8, 2, lora, gradient_checkpointing=on, micro_batch=2, gradient_accumulation=16, **grpo),
        Case("Qwen2", 8, 3, lora, gradient_checkpointing=on, micro_batch=4, gradient_accumulation=16, **grpo),
        Case("Phi", 2, 0, lora, gradient_accumulation=32, **grpo),
        Case("Mixtral", 8, 2, gradient_accumulation=4, **grpo),
        Case("Llama", 2, 2, gradient_accumulation=4, has_reward_model=True, **grpo),
        Case("Qwen2", 8, 3, gradient_accumulation=16, has_reward_model=True, **grpo),
        Case("GPT-NeoX", 2, 0, gradient_checkpointing=on, gradient_accumulation=16, has_reward_model=True, **grpo),
        Case("Llama", 2, 2, gradient_accumulation=4, beta=0.04, **grpo),
        Case("Qwen3", 8, 3, gradient_checkpointing=on, micro_batch=2, beta=0.04, **grpo),
        Case("Mistral", 8, 2, lora, micro_batch=2, gradient_accumulation=8, has_reward_model=True, beta=0.04, **grpo),
    )
