"""Where generation with the trained model stops: at the token that ends a turn."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import GenerationConfig, PreTrainedTokenizerBase

from autofit.domain.errors import UsageError, error_text
from autofit.domain.request import Request
from autofit.inputs.snapshot import local_options
from autofit.worker.model.configuration import load_config

from .turn_end import TurnEnd


def missing_stop(
    request: Request, tokenizer: PreTrainedTokenizerBase, end: TurnEnd | None
) -> tuple[int | None, tuple[str, ...]]:
    """The token that ends a turn and at which generation does not stop yet, None where it does; notes for the user.

    `end` is None where the data has no turns, or nothing is known of their ends.
    """
    if end is None:
        return None, ()
    if not end.learned:
        return None, ("generation will not stop: the chat template ends no turn with a token of its own",)
    token = end.missing([*_listed(tokenizer.eos_token_id), *_listed(_generation_eos(request))])
    if token is None:
        return None, ()
    return token, (f"{tokenizer.decode([token])} ends a turn: the saved generation config stops at it, too",)


def unshared_end(request: Request, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """A note where the model's configs do not know the token with which its tokenizer ends a text, and which the
    trainer writes into them."""
    own, theirs = tokenizer.eos_token_id, _listed(_generation_eos(request))
    if own is None or not theirs or own in theirs:
        return ()
    ends = ", ".join(map(str, theirs))
    said = f"a text ends in token {ends} by the model's config, in {own} ({tokenizer.eos_token}) by its tokenizer"
    return (f"{said}: the tokenizer's is learned, and saved with the model",)


def stop_also_at(config: GenerationConfig, token_id: int) -> None:
    """Has generation with `config` end at this token, too."""
    config.eos_token_id = [*_listed(config.eos_token_id), token_id]


def _generation_eos(request: Request) -> int | Sequence[int] | None:
    try:
        config = GenerationConfig.from_pretrained(request.model, **local_options(request.model))
    except OSError:  # it has none: the model's own is made from its config
        config = load_config(request.model, trust_remote_code=request.trust_remote_code).get_text_config()
    except Exception as error:  # it holds what is no config: transformers raises what it likes
        said = error_text(error, 200)
        raise UsageError(
            f"the generation_config.json of {request.model} cannot be read ({said}): download it again, or remove it."
        ) from error
    ids: int | Sequence[int] | None = getattr(config, "eos_token_id", None)
    return ids


def _listed(ids: int | Sequence[int] | None) -> list[int]:
    """The tokens; a config may hold anything under this name."""
    several = ids if isinstance(ids, (list, tuple)) else [ids]
    return [one for one in several if isinstance(one, int)]
