"""A generation on fake tensors: the pass through the prompts, and the one with the last token of each answer.

As transformers 5.23 does it (`GenerationMixin._sample`): a cache of keys and values that grows by a copy, layer by
layer; logits of the last token alone, made fp32; a token drawn at random.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import DynamicCache

from autofit.domain.outcome import Phase
from autofit.domain.trace import MicroStep, Moment, Work
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE, padded_tokens
from autofit.worker.trace.ledger import Ledger


def generate(model: nn.Module, step: MicroStep, ledger: Ledger) -> tuple[Moment, Moment]:
    """The two moments of the layers that run; under a mode of fake tensors and under `ledger`.

    What the last generation has left for the micro-steps is still there.
    """
    multiple = PAD_TO_MULTIPLE[step.kind]
    prompt_tokens = step.tokens - padded_tokens(step.completion_tokens, multiple)
    drawn = step.completion_tokens - 1  # by the passes behind the prompts'; the last token goes through none
    rows, last = step.generated_rows, prompt_tokens + drawn
    ledger.begin(Phase.GENERATE)
    left = torch.ones(2, rows, step.tokens, dtype=torch.int64)  # ids and masks
    with torch.no_grad(), _uncheckpointed(model.train()):
        prompts = _moment(ledger, lambda: _draw(model, rows, prompt_tokens, prompt_tokens, _empty_cache(model)))
        cache = _empty_cache(model)
        _run(model, rows, last - 1, last - 1, cache)
        answers = _moment(ledger, lambda: _draw(model, rows, 1, last, cache))
    del left
    return prompts, Moment(answers.phase, answers.activations_bytes, 0, answers.work * drawn)


def _moment(ledger: Ledger, act: Any) -> Moment:
    ledger.begin(Phase.GENERATE)
    act()
    section = ledger.sections[-1]
    ledger.begin(Phase.GENERATE)  # what comes between is no part of it
    return Moment(Phase.GENERATE, section.peak_bytes, 0, section.work)


def _draw(model: nn.Module, rows: int, tokens: int, seen: int, cache: DynamicCache) -> None:
    logits = _run(model, rows, tokens, seen, cache)[:, -1].to(copy=True, dtype=torch.float32)
    torch.multinomial(nn.functional.softmax(logits, dim=-1), num_samples=1)


def _run(model: nn.Module, rows: int, tokens: int, seen: int, cache: DynamicCache) -> torch.Tensor:
    """The logits of the last of `tokens`, behind which `seen` tokens of a row lie, these included."""
    bare: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    last = {"logits_to_keep": 1} if bare._supports_logits_to_keep() else {}
    ids, mask = torch.ones(rows, tokens, dtype=torch.int64), torch.ones(rows, seen, dtype=torch.int64)
    positions = torch.ones(rows, tokens, dtype=torch.int64)
    outputs = bare(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, **last
    )
    logits: torch.Tensor = outputs.logits
    return logits


def _empty_cache(model: nn.Module) -> DynamicCache:
    config: Any = model.config
    return DynamicCache(config=config.get_text_config())


@contextlib.contextmanager
def _uncheckpointed(model: nn.Module) -> Iterator[None]:
    """Has no layer checkpointed until the end of `with`, as trl does: such a layer keeps no keys and values."""
    layers = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    for layer in layers:
        layer.gradient_checkpointing = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = True  # type: ignore[assignment]


def of_all_layers(deep: Moment, shallow: Moment, times: int) -> Moment:
    """The moment that differs from `deep` as that does from `shallow`, so many times: each layer adds its part of the
    cache and its work, and all else is there once."""
    grown_bytes = deep.activations_bytes - shallow.activations_bytes
    work: Work = deep.work + (deep.work - shallow.work) * times
    return Moment(deep.phase, deep.activations_bytes + times * grown_bytes, 0, work)
