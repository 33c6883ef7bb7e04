"""The fields of trl's configurations that do not stand after `--`, each with flag or reason; all others are taken.

What a field does under DeepSpeed was read in transformers 5.23, trl 1.16 and accelerate 1.15.
"""

from __future__ import annotations

OURS = {
    "activation_checkpointing": "--gradient-checkpointing",
    "assistant_only_loss": "--learn",
    "auto_find_batch_size": "--micro-batch",
    "bf16": "--dtype",
    "bf16_full_eval": "--dtype",
    "completion_only_loss": "--learn",
    "deepspeed": "--zero-stage and --offload",
    "fp16": "--dtype",
    "fp16_full_eval": "--dtype",
    "fsdp": "--zero-stage",
    "fsdp_config": "--zero-stage",
    "gradient_accumulation_steps": "--batch-size",
    "gradient_checkpointing": "--gradient-checkpointing",
    "learning_rate": "--learning-rate",
    "max_completion_length": "--completion-tokens",
    "max_length": "--seq",
    "max_steps": "--max-steps",
    "model_init_kwargs": "--attention and --dtype",
    "num_generations": "--num-generations",
    "num_train_epochs": "--epochs",
    "output_dir": "--output-dir",
    "per_device_eval_batch_size": "--micro-batch",
    "per_device_train_batch_size": "--micro-batch",
    "report_to": "--report-to",
    "resume_from_checkpoint": "--resume",
    "reward_weights": "--reward",
    "save_steps": "--save-steps",
    "seed": "--seed",
    "trust_remote_code": "--trust-remote-code",
    "use_cpu": "--ranks",
}
"""Fields that autofit sets itself, with the flag of autofit that takes their place."""

_ONE_GENERATION = (
    "a generation makes the answers of one optimizer step, so that a step is the same however the batch is divided, "
    "and a training goes on from between two generations"
)
_OWN_MODEL = "the model that trains generates by itself; vLLM would take memory that no estimate counts"
_CACHE = "an estimate counts a cache of keys and values that grows with the answers"
_ORDER = "the probes need to know the order of the rows"
_ONE_LOSS = "an evaluation here has the loss of the tokens and nothing else"
_NO_DDP = "autofit sets up torch's DistributedDataParallel itself, and DeepSpeed's ZeRO takes its place"
_COMPILER = "a probe of a few steps would time the compiler, which begins anew with each width of a batch"
_OPTIMIZERS = "it is read by optimizers alone that ZeRO's shares of flat parameters do not let be what they are"
_MOVING = "no checkpoint has a reference that moves, so that an interrupted run would go on from another one"

FIXED = {
    "accelerator_config": "it would divide the global batch in another way than was chosen",
    "average_tokens_across_devices": "what a step learns would hang on the number of devices",
    "batch_eval_metrics": _ONE_LOSS,
    "cache_implementation": _CACHE,
    "dataset_kwargs": "the rows are tokenized by autofit, and cut by trl alone",
    "dataset_text_field": "autofit finds the columns by their names; name the column text",
    "ddp_backend": _NO_DDP,
    "ddp_broadcast_buffers": _NO_DDP,
    "ddp_bucket_cap_mb": _NO_DDP,
    "ddp_find_unused_parameters": _NO_DDP,
    "ddp_static_graph": _NO_DDP,
    "ddp_timeout": "the ranks have met before transformers would set it",
    "do_predict": "nothing is predicted after a training",
    "enable_jit_checkpoint": "it keeps the signal that ends a training from ending it, each rank by a timer of its own",
    "eval_use_gather_object": _ONE_LOSS,
    "generation_batch_size": _ONE_GENERATION,
    "greater_is_better": "the best model is the one with the least loss",
    "hub_token": "it would stand in the run folder; log in with `hf auth login`, or set HF_TOKEN",
    "include_for_metrics": _ONE_LOSS,
    "label_names": "what is learned is the column labels, which autofit writes",
    "length_column_name": _ORDER,
    "liger_kernel_config": "transformers reads no such value from a command line",
    "local_rank": "the launcher tells each rank its own",
    "logging_nan_inf_filter": "it would hide a loss that is not finite, which --on-divergence looks for",
    "num_iterations": _ONE_GENERATION,
    "optim_target_modules": _OPTIMIZERS,
    "parallelism_config": "all devices share the batch; nothing divides a sequence or a layer",
    "ref_model_mixup_alpha": _MOVING,
    "ref_model_sync_steps": _MOVING,
    "save_on_each_node": "all nodes see the same run folder, where they would write over each other's files",
    "save_only_model": "an interrupted run goes on from the optimizer's state",
    "skip_memory_metrics": "it sets the peak memory back that autofit reads",
    "steps_per_generation": _ONE_GENERATION,
    "sync_ref_model": _MOVING,
    "torch_compile": _COMPILER,
    "torch_compile_backend": _COMPILER,
    "torch_compile_mode": _COMPILER,
    "train_sampling_strategy": _ORDER,
    "transformers_continuous_batching_config": _CACHE,
    "use_cache": "a training takes no keys and values of an earlier step",
    "use_transformers_continuous_batching": _CACHE,
    "use_transformers_paged": _CACHE,
    "use_vllm": _OWN_MODEL,
    "vllm_enable_sleep_mode": _OWN_MODEL,
    "vllm_gpu_memory_utilization": _OWN_MODEL,
    "vllm_group_port": _OWN_MODEL,
    "vllm_importance_sampling_cap": _OWN_MODEL,
    "vllm_importance_sampling_clip_max": _OWN_MODEL,
    "vllm_importance_sampling_clip_min": _OWN_MODEL,
    "vllm_importance_sampling_correction": _OWN_MODEL,
    "vllm_importance_sampling_mode": _OWN_MODEL,
    "vllm_max_model_length": _OWN_MODEL,
    "vllm_mode": _OWN_MODEL,
    "vllm_model_impl": _OWN_MODEL,
    "vllm_server_base_url": _OWN_MODEL,
    "vllm_server_host": _OWN_MODEL,
    "vllm_server_port": _OWN_MODEL,
    "vllm_server_timeout": _OWN_MODEL,
    "vllm_structured_outputs_regex": _OWN_MODEL,
    "vllm_tensor_parallel_size": _OWN_MODEL,
}
"""Fields that nothing takes the place of, with the reason."""

GONE = {
    "evaluation_strategy": "it is called --eval_strategy",
    "group_by_length": _ORDER,
    "logging_dir": "set the environment variable TENSORBOARD_LOGGING_DIR",
    "max_seq_length": "use --seq",
    "overwrite_output_dir": "leave it out: another --output-dir trains anew",
    "save_safetensors": "leave it out: weights are always saved so",
}
"""Names of earlier versions of transformers and trl, with what to do today."""

CHECKPOINTING_KWARGS = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
"""Fields that say how a rung checkpoints which does."""

GENERATION_OURS = {
    "max_length": "--completion-tokens",
    "max_new_tokens": "--completion-tokens",
    "num_return_sequences": "--num-generations",
}
"""Keys of `generation_kwargs` that autofit sets itself, with its flag."""

GENERATION_KEYS = {
    "bad_words_ids",
    "begin_suppress_tokens",
    "do_sample",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "sequence_bias",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
}
"""Keys of `generation_kwargs` that decide which token comes next, and nothing of how many rows, passes or caches there
are (transformers 5.23's GenerationConfig)."""
