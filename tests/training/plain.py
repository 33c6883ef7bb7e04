"""The same training by plain trl: one process, no DeepSpeed, the whole batch in as few passes as are asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from autofit.worker.data.loaded_data import load
from tests.worker.fused_update.reference import AdaLomoReference


class Plain(SFTTrainer):
    """Notes the norm of the gradients in fp64: torch's own sum in fp32 errs by 1e-5 where a tensor is large."""

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        self.exact_norm = float(sum(gradient.double().pow(2).sum() for gradient in gradients)) ** 0.5
        return super()._clip_grad_norm(model)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs | ({"grad_norm": self.exact_norm} if "grad_norm" in logs else {}), start_time)


def main() -> None:
    """The one argument is JSON; loss, gradient norm and the rest of each step are left in `out`/history.json."""
    told = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adalomo = (AdaLomoReference, {"lr": told["arguments"]["learning_rate"]})
    trainer = Plain(
        model=AutoModelForCausalLM.from_pretrained(told["model"], dtype=torch.float32),
        args=SFTConfig(
            output_dir=told["out"],
            use_cpu=True,
            bf16=told["is_bf16"],
            fp16=False,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=42,
            **told["arguments"],
        ),
        train_dataset=load(told["data"]).dataset,
        processing_class=AutoTokenizer.from_pretrained(told["model"]),
        peft_config=lora if told["is_lora"] else None,
        optimizer_cls_and_kwargs=adalomo if told["is_adalomo"] else None,
    )
    trainer.train()
    trainer.save_model(str(Path(told["out"], "model")))
    Path(told["out"], "history.json").write_text(json.dumps(trainer.state.log_history))
