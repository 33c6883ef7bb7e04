"""The weights of a model read again from a checkpoint of its own training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange

from .checkpoint_tensors import StoredTensor, stored_tensors
from .partition_loader import fill_parameter
from .weight_sources import grouped


def reload_weights(model: PreTrainedModel, folder: Path) -> None:
    """Fills the model with the weights in the safetensors files of `folder`, each straight from the mapped file.

    Files have the names of the original model's, of which transformers makes others for some classes (experts that are
    fused); its trainer loads by the model's own names, and passes over what has none (`_load_from_checkpoint`).
    RuntimeError where a weight of the model is not there.
    """
    stored: dict[str, StoredTensor] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        stored |= stored_tensors(path, is_mappable=True)
    tensors = dict(model.named_buffers(remove_duplicate=False)) | dict(model.named_parameters(remove_duplicate=False))
    missing = set(model.state_dict()) - _stored_elsewhere(model)
    for group in grouped(model, stored, _conversions(model)):
        for name, source in group.sources(model):
            fill_parameter(tensors[name], source)
            missing.discard(name)
    if missing:
        raise RuntimeError(f"{folder} is no checkpoint of this model: it lacks {', '.join(sorted(missing))}")


def _conversions(model: PreTrainedModel) -> Sequence[Any]:
    """What makes the model's weights of the files', which a save reverts: what its own loading has used, or the usual
    of its class (transformers 5.23, revert_weight_conversion in core_model_loading.py)."""
    used = getattr(model, "_weight_conversions", None)
    if used is not None:
        return list(used)
    usual = get_model_conversion_mapping(model, add_legacy=False)
    return [one for one in usual if not isinstance(one, PrefixChange)]


def _stored_elsewhere(model: PreTrainedModel) -> set[str]:
    """The names under which nothing is stored: of tied weights all but one, and what the class leaves out."""
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
    return {*tied, *(model._keys_to_ignore_on_save or ())}
