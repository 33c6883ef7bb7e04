"""The names under which trl's loss looks for parts of a model and its configuration."""

from __future__ import annotations

from transformers import PretrainedConfig, PreTrainedModel

_EXPERTS = "num_experts"


def name_for_loss(model: PreTrainedModel) -> None:
    """Lets `trl.trainer.utils.add_fused_lm_head` of trl 1.16 find the number of experts and the layers below the head.

    Nothing of it is saved: the first is another name of what the configuration's class has already, the second is the
    instance's alone.
    """
    _name_experts(model.config.get_text_config())
    # Llama 4 and Mllama are called parts of their whole, image tower included, whose name for them is not their own.
    if model.base_model is model and isinstance(getattr(model, "model", None), PreTrainedModel):
        model.base_model_prefix = "model"


def _name_experts(config: PretrainedConfig) -> None:
    """Some classes (GraniteMoE, Phi-3.5-MoE, DeepSeek-V4) know the number of experts by other names alone."""
    own = config.attribute_map.get("num_local_experts", "num_local_experts")
    if not hasattr(config, _EXPERTS) and hasattr(config, own):
        type(config).attribute_map = {**config.attribute_map, _EXPERTS: own}
