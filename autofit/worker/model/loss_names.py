"""The names under which trl's loss looks for parts of a model and its configuration."""

from __future__ import annotations

from transformers import PretrainedConfig, PreTrainedModel

_NAMES = {
    "num_experts": ("num_local_experts",),  # GraniteMoE, Phi-3.5-MoE, DeepSeek-V4
    "final_logit_softcapping": ("logits_soft_cap", "output_logit_soft_cap"),  # RecurrentGemma, xLSTM
    "logits_scaling": ("logits_mup_width_multiplier",),  # Inkling
}
"""By the name that trl's loss asks for: the names under which some classes alone know the same."""

_HEADS_OF_LAYERS = ("modernbert-decoder",)


def name_for_loss(model: PreTrainedModel) -> None:
    """Lets `trl.trainer.utils.add_fused_lm_head` of trl 1.16 find the number of experts, what is done to the logits,
    and the layers below the head.

    Nothing of it is saved: the first two are other names of what the configuration's class has already, the last is the
    instance's alone.
    """
    _name(model.config.get_text_config())
    # Llama 4 and Mllama are called parts of their whole, image tower included, whose name for them is not their own.
    if model.base_model is model and isinstance(getattr(model, "model", None), PreTrainedModel):
        model.base_model_prefix = "model"


def why_no_loss(model: PreTrainedModel) -> str | None:
    """Why trl's loss is not that of the model; None where it is. It takes the head for one matrix."""
    if model.config.model_type in _HEADS_OF_LAYERS:
        return f"trl's loss leaves out the layers within the head of a {model.config.model_type}: choose another model"
    return None


def _name(config: PretrainedConfig) -> None:
    for asked, others in _NAMES.items():
        own = next((config.attribute_map.get(name, name) for name in others if hasattr(config, name)), None)
        if own is not None and not hasattr(config, asked):
            type(config).attribute_map = {**config.attribute_map, asked: own}
