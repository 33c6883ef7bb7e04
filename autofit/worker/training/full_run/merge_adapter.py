"""Merges an adapter into its base model on the CPU and saves the whole; started with -m once the training is over."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, TaskType
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from transformers import GenerationConfig
from transformers.utils import GENERATION_CONFIG_NAME

from autofit.domain.knobs.dtype import Dtype
from autofit.worker.model.loading import load_plain, load_tokenizer
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES
from autofit.worker.saving.model_writer import ModelWriter
from autofit.worker.saving.stored_state import stored_state


class MergedWeights:
    """The weights of a model with adapters, merged for as long as they are asked for: one layer's at a time."""

    def __init__(self, adapted: PeftModel) -> None:
        self._layers: dict[int, list[BaseTunerLayer]] = defaultdict(list)
        for layer in adapted.modules():
            if isinstance(layer, BaseTunerLayer):
                for parameter in layer.get_base_layer().parameters():
                    self._layers[id(parameter)].append(layer)

    @contextmanager
    def merged(self, tensors: Collection[torch.Tensor]) -> Iterator[None]:
        """Merges the adapters of the layers that `tensors` belong to into copies of their weights, until the end of
        `with`."""
        layers = {id(layer): layer for tensor in tensors for layer in self._layers.get(id(tensor), ())}.values()
        bases = {parameter: parameter.data for layer in layers for parameter in layer.get_base_layer().parameters()}
        for parameter, weights in bases.items():
            parameter.data = weights.clone()
        try:
            for layer in layers:
                layer.merge()
            yield
        finally:
            for parameter, weights in bases.items():
                parameter.data = weights
            for layer in layers:
                layer.merged_adapters.clear()


def merge(base: str, adapter: Path, out: Path, dtype: torch.dtype, *, trust_remote_code: bool) -> None:
    """Writes base + adapter to `out`, all of it in `dtype`: beside the base model the host holds one layer's weights. A
    base that was quantised for the training alone is merged into as it is stored, in full precision.

    NotStreamed where the base is of a kind that nothing is merged into; OSError and KnownFailure where it cannot be
    read or written.
    """
    scores = PeftConfig.from_pretrained(str(adapter)).task_type == TaskType.SEQ_CLS
    model = load_plain(base, dtype=dtype, trust_remote_code=trust_remote_code, scores=scores)
    if (adapter / GENERATION_CONFIG_NAME).is_file():  # the training may have found where a turn ends
        model.generation_config = GenerationConfig.from_pretrained(str(adapter))
    tokenizer = load_tokenizer(str(adapter), trust_remote_code=trust_remote_code)
    if scores:  # by which it finds where a sequence ends, as in the training
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id

    def write_rest(folder: Path) -> None:
        model.save_pretrained(str(folder), state_dict={})
        tokenizer.save_pretrained(str(folder))

    state = stored_state(model)  # under the model's own names, which adapters change
    adapted = PeftModel.from_pretrained(model, str(adapter), torch_device="cpu")
    _take_over_whole_modules(adapted)
    weights = MergedWeights(adapted)
    ModelWriter(state, out, as_written=weights.merged).write(write_rest)


@torch.no_grad()
def _take_over_whole_modules(adapted: PeftModel) -> None:
    """Gives the base model the modules that were trained whole beside the adapter: a head that scores."""
    for wrapper in adapted.modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            trained = wrapper.modules_to_save[wrapper.active_adapter]
            wrapper.original_module.load_state_dict(trained.state_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description="Merges an adapter into its base model.")
    parser.add_argument("--base", required=True, help="local folder or hub id")
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", choices=[dtype.value for dtype in Dtype], required=True)
    parser.add_argument("--trust-remote-code", action="store_true")
    options = parser.parse_args()
    dtype, trust_remote_code = TORCH_DTYPES[Dtype(options.dtype)], options.trust_remote_code
    merge(options.base, options.adapter, options.out, dtype, trust_remote_code=trust_remote_code)


if __name__ == "__main__":
    main()
