"""How many tokens a model knows: the size of its embedding, as its config and its weights have it."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.inputs.weights import has_all_weights, read_tensors
from autofit.worker.model.configuration import check_padding, load_config
from autofit.worker.model.loading import build_without_memory


def embedding_count(request: Request) -> int | None:
    """The number of tokens that the model's embedding holds, None where nobody can tell; no weight is read.

    UsageError where the model could not be loaded for it: its weights hold another number, or its padding token lies
    beyond.
    """
    model, config = request.model, load_config(request.model, trust_remote_code=request.trust_remote_code)
    try:
        built = build_without_memory(config)
        count = int(built.get_input_embeddings().weight.shape[0])
    except Exception as error:  # a class may refuse its config for whatever else: the trace tells that
        check_padding(model, config, error)
        stated: int | None = getattr(config.get_text_config(), "vocab_size", None)
        return stated
    _check_weights(model, built, count)
    return count


def _check_weights(model: str, built: PreTrainedModel, count: int) -> None:
    """Checks that the weights of a folder hold as many tokens as its config says: transformers loads no others."""
    folder = Path(model)
    stored = _stored_count(folder, built) if folder.is_dir() and has_all_weights(folder) else None
    if stored not in (None, count):
        raise UsageError(
            f"the config of {model} has an embedding of {count:,} tokens, and its weights hold {stored:,}; set "
            f"vocab_size to {stored} in its config.json, or take the weights that belong to it."
        )


def _stored_count(folder: Path, built: PreTrainedModel) -> int | None:
    """The number of rows of the embedding in the folder's weights; None where no tensor, or more than one, has its
    name."""
    embedding = built.get_input_embeddings()
    own = next(f"{name}.weight" for name, module in built.named_modules() if module is embedding)
    same = [one for one in read_tensors(folder) or () if _is_same(one.name, own)]
    return same[0].shape[0] if len(same) == 1 else None


def _is_same(name: str, other: str) -> bool:
    """Whether two names of a tensor differ by no more than what stands before them: a base model is saved without its
    prefix."""
    return f".{name}".endswith(f".{other}") or f".{other}".endswith(f".{name}")
