"""Configs in the manner of public ones, through a script's copy: DeepSpeed reads both, and means the same by both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import deepspeed.comm
import pytest
from deepspeed.runtime.config import DeepSpeedConfig
from pydantic import BaseModel
from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig, unset_hf_deepspeed_config

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.offload import Offload
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.planning.export.deepspeed_config import offload_in
from autofit.planning.script.config_rewriter import ConfigRewriter
from autofit.planning.script.script_arguments import ACCUMULATION_FLAGS, MICRO_BATCH_FLAGS, find
from autofit.planning.script.tunable_knobs import tunable_knobs
from autofit.planning.script.zero_section import OLDER_NAMES, OLDER_SWITCHES
from tests.builders import make_facts, make_rung

RANKS, HIDDEN = 2, 64
DEPRECATED = {f"zero_config.{key}" for key in (*OLDER_NAMES, *OLDER_SWITCHES)}  # what they stand for is compared
UNTOLD = {"monitor_config", "comms_config", "flops_profiler_config"}  # by a probe
WORDS = ("--deepspeed", "ds.json", "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "4")
BATCH = {
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
}  # fmt: skip
ADAM = {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}}
WARMUP = {"type": "WarmupLR", "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": 10}}
FP16 = {
    "enabled": "auto", "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16, "hysteresis": 2,
    "min_loss_scale": 1,
}  # fmt: skip
CPU = {"device": "cpu", "pin_memory": True}
AUTO_SIZES = {
    "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto",
}  # fmt: skip
ZERO2 = {
    "stage": 2, "allgather_partitions": True, "allgather_bucket_size": 2e8, "overlap_comm": True,
    "reduce_scatter": True, "reduce_bucket_size": 2e8, "contiguous_gradients": True,
}  # fmt: skip
ZERO3 = {
    "stage": 3, "overlap_comm": True, "contiguous_gradients": True, "sub_group_size": 1e9, **AUTO_SIZES,
    "stage3_max_live_parameters": 1e9, "stage3_max_reuse_distance": 1e9,
    "stage3_gather_16bit_weights_on_model_save": True,
}  # fmt: skip
TAIL = {"gradient_clipping": "auto", "steps_per_print": 2000, "wall_clock_breakdown": False}
OWN = {"train_batch_size": 32}


def _hf(**sections: Any) -> dict[str, Any]:
    return {**BATCH, **TAIL, **sections}


def _own(**sections: Any) -> dict[str, Any]:
    return {**OWN, **sections}


CONFIGS: dict[str, dict[str, Any]] = {
    # of trainers that fill in what is "auto"
    "the trainer's stage 2": _hf(fp16=FP16, optimizer=ADAM, scheduler=WARMUP, zero_optimization=ZERO2),
    "its stage 2 with bf16": _hf(bf16={"enabled": "auto"}, zero_optimization=ZERO2),
    "its stage 2 with offload": _hf(fp16=FP16, zero_optimization={**ZERO2, "offload_optimizer": CPU}),
    "its stage 3": _hf(fp16=FP16, optimizer=ADAM, scheduler=WARMUP, zero_optimization=ZERO3),
    "its stage 3 with offload": _hf(
        bf16={"enabled": "auto"}, zero_optimization={**ZERO3, "offload_optimizer": CPU, "offload_param": CPU}
    ),
    "stage 3 without the save's gathering": _hf(zero_optimization={"stage": 3, **AUTO_SIZES}),
    "offload to none": _hf(
        zero_optimization={**ZERO3, "offload_optimizer": {"device": "none", "nvme_path": None},
                           "offload_param": {"device": "none", "nvme_path": None}}
    ),
    "offload that is null": _hf(zero_optimization={**ZERO3, "offload_optimizer": None, "offload_param": None}),
    "fp16 switched off beside bf16": _hf(fp16={"enabled": False}, bf16={"enabled": True}, zero_optimization=ZERO2),
    "a batch of the config's own": {**_hf(zero_optimization=ZERO2), "gradient_accumulation_steps": 4},
    "hpZ and quantized communication": _hf(
        zero_optimization={**ZERO3, "zero_hpz_partition_size": 1, "zero_quantized_weights": True,
                           "zero_quantized_gradients": True}
    ),
    "quantized frozen weights": _hf(zero_optimization={**ZERO3, "zero_quantized_nontrainable_weights": True}),
    "round robin": _hf(zero_optimization={**ZERO2, "round_robin_gradients": True}),
    "stage 2 with offloaded parameters": _hf(
        zero_optimization={**ZERO2, "offload_optimizer": CPU, "offload_param": CPU}
    ),
    "a step's profile": _hf(
        zero_optimization=ZERO2,
        flops_profiler={"enabled": False, "profile_step": 1, "module_depth": -1, "top_modules": 1, "detailed": True},
    ),
    "communication's log": _hf(
        zero_optimization=ZERO2,
        comms_logger={"enabled": False, "verbose": False, "prof_all": True, "debug": False},
    ),
    "monitors": _hf(
        zero_optimization=ZERO2,
        tensorboard={"enabled": False, "output_path": "logs/", "job_name": "run"},
        wandb={"enabled": False, "team": None, "project": "p"}, csv_monitor={"enabled": False},
    ),
    # of loops of people's own
    "nothing but a batch": _own(),
    "rows of a rank": {"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": 1}},
    "rows of a rank, accumulated": {
        "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 4, "zero_optimization": {"stage": 2},
    },
    "an optimizer and its schedule": _own(
        optimizer={"type": "Adam", "params": {"lr": 3e-5, "betas": [0.8, 0.999], "eps": 1e-8, "weight_decay": 3e-7}},
        scheduler={"type": "WarmupDecayLR",
                   "params": {"warmup_min_lr": 0, "warmup_max_lr": 3e-5, "warmup_num_steps": 500,
                              "total_num_steps": 4000}},
        fp16={"enabled": True, "loss_scale": 0, "initial_scale_power": 16}, gradient_clipping=1.0,
        zero_optimization={"stage": 1},
    ),
    "one cycle": _own(
        optimizer={"type": "AdamW", "params": {"lr": 1e-3}},
        scheduler={"type": "OneCycle", "params": {"cycle_min_lr": 1e-5, "cycle_max_lr": 1e-3}},
    ),
    "ZeRO that is a switch": _own(zero_optimization=True, allgather_size=10**8, fp16={"enabled": True}),
    "ZeRO that is switched off": _own(zero_optimization=False),
    "an older offload": _own(
        zero_optimization={"stage": 2, "cpu_offload": True, "contiguous_gradients": True, "overlap_comm": True},
        zero_allow_untested_optimizer=True, fp16={"enabled": True, "loss_scale": 128.0},
    ),
    "an older offload, off": _own(zero_optimization={"stage": 2, "cpu_offload": False}),
    "an older offload of parameters": _own(
        zero_optimization={"stage": 3, "cpu_offload": True, "cpu_offload_param": True,
                           "cpu_offload_use_pin_memory": True}
    ),
    "older names of stage 3": _own(
        zero_optimization={"stage": 3, "stage3_gather_fp16_weights_on_model_save": True, "prefetch_bucket_size": 10**7,
                           "param_persistence_threshold": 10**5, "max_live_parameters": 10**9}
    ),
    "a disk": _own(
        zero_optimization={"stage": 3,
                           "offload_optimizer": {"device": "nvme", "nvme_path": "/local_nvme", "pin_memory": True,
                                                 "buffer_count": 4, "fast_init": False},
                           "offload_param": {"device": "nvme", "nvme_path": "/local_nvme", "buffer_count": 5,
                                             "buffer_size": 1e8, "max_in_cpu": 1e9}},
        aio={"block_size": 262144, "queue_depth": 32, "thread_count": 1, "single_submit": False,
             "overlap_events": True},
    ),
    "a part of the optimizer": _own(
        zero_optimization={"stage": 3, "offload_optimizer": {"device": "cpu", "pin_memory": True, "ratio": 0.3}}
    ),
    "checkpointed activations": _own(
        zero_optimization={"stage": 2},
        activation_checkpointing={"partition_activations": False, "cpu_checkpointing": False,
                                  "contiguous_memory_optimization": False, "number_checkpoints": None,
                                  "synchronize_checkpoint_boundary": False, "profile": False},
    ),
    "sums of gradients": _own(gradient_allreduce_op="sum"),
    "no norm of the gradients": _own(zero_optimization={"stage": 2, "compute_grad_norm": False}),
    "communication in bf16": _own(
        bf16={"enabled": True}, communication_data_type="bf16", prescale_gradients=False,
        data_types={"grad_accum_dtype": "fp32"},
    ),
    "bf16 masters": _own(
        bf16={"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True},
        zero_optimization={"stage": 2},
    ),
    "a universal checkpoint": _own(
        checkpoint={"load_universal": True, "tag_validation": "Ignore", "parallel_write": {"pipeline_stage": False}}
    ),
    "data that is drawn": _own(
        data_efficiency={"enabled": True, "seed": 1, "data_sampling": {"enabled": False},
                         "data_routing": {"enabled": False}}
    ),
    "an autotuner and a dump": _own(
        zero_optimization={"stage": 1}, autotuning={"enabled": False}, dump_state=False, memory_breakdown=False,
        seed=1234, hybrid_engine={"enabled": False},
        tensor_parallel={"autotp_size": 0}, compile={"deepcompile": False},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def two_ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(deepspeed.comm, "get_world_size", lambda group=None: RANKS)
    monkeypatch.setattr(deepspeed.comm, "get_rank", lambda group=None: 0)
    yield
    unset_hf_deepspeed_config()


def _read(config: dict[str, Any], words: tuple[str, ...]) -> DeepSpeedConfig:
    """The config as DeepSpeed reads it, after transformers' own trainer has filled in what is "auto"."""
    if '"auto"' not in json.dumps(config):
        return DeepSpeedConfig(config)
    micro_batch, accumulation = find(words, MICRO_BATCH_FLAGS), find(words, ACCUMULATION_FLAGS)
    assert micro_batch is not None
    assert accumulation is not None
    arguments = SimpleNamespace(
        world_size=RANKS, per_device_train_batch_size=int(micro_batch.text), max_grad_norm=1.0, learning_rate=1e-3,
        gradient_accumulation_steps=int(accumulation.text), adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8,
        weight_decay=0.0, save_on_each_node=False, fp16="fp16" in config and "bf16" not in config, fp16_full_eval=False,
        bf16=config.get("bf16") is not None, bf16_full_eval=False, get_warmup_steps=lambda steps: 10,
    )  # fmt: skip
    filled = HfTrainerDeepSpeedConfig(config)
    filled.trainer_config_process(arguments)
    model = SimpleNamespace(config=SimpleNamespace(hidden_size=HIDDEN, hidden_sizes=None, text_config=None))
    filled.trainer_config_finalize(arguments, model, 100)
    return DeepSpeedConfig(filled.config)


def _words(config: dict[str, Any]) -> tuple[str, ...]:
    return WORDS if '"auto"' in json.dumps(config) else ("--deepspeed_config", "ds.json")


def _facts(read: DeepSpeedConfig) -> ScriptFacts:
    return make_facts(
        zero_stage=int(read.zero_optimization_stage),
        offload=offload_in(read.zero_config.model_dump()),
        micro_batch=read.train_micro_batch_size_per_gpu,
        gradient_accumulation=read.gradient_accumulation_steps,
        rank_count=RANKS,
    )


def _plain(value: Any) -> Any:
    """What a part of a config says, to be compared."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    return {key: _plain(one) for key, one in vars(value).items()} if hasattr(value, "__dict__") else value


def _meaning(read: DeepSpeedConfig) -> dict[str, Any]:
    """Everything that DeepSpeed has read, one level flattened."""
    found: dict[str, Any] = {}
    for name, value in vars(read).items():
        part = _plain(value)
        if name == "_param_dict":
            continue
        found |= {f"{name}.{key}": one for key, one in part.items()} if isinstance(part, dict) else {name: part}
    for key in ("zero_config.offload_optimizer", "zero_config.offload_param"):
        if found[key] is not None and found[key]["device"] == "none":
            found[key] = None  # as DeepSpeed takes it
    return {key: value for key, value in found.items() if key not in DEPRECATED}


@pytest.mark.parametrize("is_probe", [False, True], ids=["trained", "probed"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_copy_is_read_and_means_the_same_but_for_what_is_turned(name: str, is_probe: bool) -> None:
    config = CONFIGS[name]
    words = _words(config)
    read = _read(json.loads(json.dumps(config)), words)
    own, facts = _meaning(read), _facts(read)
    knobs = tunable_knobs(config, words, frozenset())
    rewriter = ConfigRewriter(config, words, knobs, facts, HIDDEN, DeviceKind.CPU)
    for stage in range(4) if knobs.can_tune_stage else (facts.zero_stage,):
        for micro_batch in (1, 2) if knobs.can_tune_micro_batch else (facts.micro_batch,):
            for offload in (Offload.NONE, Offload.OPTIMIZER) if knobs.can_tune_offload and stage else (facts.offload,):
                accumulation = facts.global_batch // RANKS // micro_batch
                strategy = Strategy(make_rung(stage, offload=offload), micro_batch, accumulation)
                made = (rewriter.probed if is_probe else rewriter.trained)(strategy, "copy.json")
                copy = _read(json.loads(made.config), made.arguments)
                assert copy.zero_optimization_stage == stage
                assert copy.train_micro_batch_size_per_gpu == micro_batch
                assert is_probe or copy.train_batch_size == facts.global_batch
                changed = {key for key, value in _meaning(copy).items() if value != own[key]}
                changed = {key for key in changed if not (is_probe and key.partition(".")[0] in UNTOLD)}
                assert changed <= _turned(config, strategy, is_probe), (strategy, changed)
    assert config == json.loads(json.dumps(config)), "the user's own is as it was"


def _turned(config: dict[str, Any], strategy: Strategy, is_probe: bool) -> set[str]:
    """What a copy may say otherwise."""
    zero = config.get("zero_optimization")
    said = zero if isinstance(zero, dict) else {}
    found = {"train_micro_batch_size_per_gpu", "gradient_accumulation_steps"}
    sizes = ("reduce_bucket_size", "allgather_bucket_size", "prefetch_bucket_size", "param_persistence_threshold")
    found |= {f"zero_config.{key}" for key in sizes if said.get(key, said.get(f"stage3_{key}")) in (None, "auto")}
    if "stage" not in said and not isinstance(zero, bool):
        found |= {"zero_optimization_stage", "zero_enabled", "zero_config.stage", "zero_config.overlap_comm"}
        found |= {"zero_config.gather_16bit_weights_on_model_save"}
    if strategy.rung.offload is not Offload.NONE and not any("offload" in key and said[key] for key in said):
        found |= {"zero_config.offload_optimizer", "zero_force_ds_cpu_optimizer"}
    return found | ({"train_batch_size"} if is_probe else set())
