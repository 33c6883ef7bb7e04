"""The weights of a model read again from a checkpoint of its own training."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

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
    for group in grouped(model, stored, getattr(model, "_weight_conversions", None) or []):
        for name, source in group.sources(model):
            fill_parameter(tensors[name], source)
            missing.discard(name)
    if missing:
        raise RuntimeError(f"{folder} is no checkpoint of this model: it lacks {', '.join(sorted(missing))}")


def _stored_elsewhere(model: PreTrainedModel) -> set[str]:
    """The names under which nothing is stored: of tied weights all but one, and what the class leaves out."""
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
    return {*tied, *(model._keys_to_ignore_on_save or ())}
