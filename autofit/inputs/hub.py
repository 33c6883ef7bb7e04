"""The edge to the Hugging Face hub: a few questions, and every error of its client as one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from autofit.domain.errors import UsageError

from .weights import Tensor

T = TypeVar("T")

_CONFIG = "config.json"


class HubLibrary(Protocol):
    """What is used of the module `huggingface_hub`."""

    def hf_hub_download(self, repo_id: str, filename: str, *, local_files_only: bool = False) -> str: ...

    def model_info(self, repo_id: str) -> Any: ...

    def get_safetensors_metadata(self, repo_id: str) -> Any: ...


class Hub:
    """Questions about one model on the hub; each raises UsageError when the hub does not answer."""

    def __init__(self, library: HubLibrary | None = None) -> None:
        self._library = library

    def config_path(self, model_id: str) -> Path | None:
        """Where config.json lies in the local cache, fetched when it is not there yet; None when the model has none."""
        return self._ask(model_id, lambda library: _fetch_config(library, model_id))

    def has_config(self, model_id: str) -> bool:
        """Whether there is such a model and it has a config.json; asks for the public list of files only."""
        return self._ask(model_id, lambda library: _has_config(library, model_id))

    def files(self, model_id: str) -> tuple[str, ...]:
        """Names of the model's files, which are public even where their content is not."""
        return self._ask(model_id, lambda library: _list_files(library, model_id))

    def tensors(self, model_id: str) -> tuple[Tensor, ...] | None:
        """Every tensor of the model, from the headers alone; None when its weights are no safetensors."""
        return self._ask(model_id, lambda library: _fetch_tensors(library, model_id))

    def _ask(self, model_id: str, question: Callable[[HubLibrary], T]) -> T:
        import huggingface_hub
        from huggingface_hub import errors

        library = self._library or cast(HubLibrary, huggingface_hub)
        # The HTTP library below differs between releases; its base error is the first parent of the hub's own.
        http_error = cast(type[Exception], errors.HfHubHTTPError.__bases__[0])
        try:
            with _quiet():
                return question(library)
        except (http_error, OSError, errors.HFValidationError, errors.SafetensorsParsingError) as error:
            raise UsageError(explain(model_id, error)) from error


def explain(model_id: str, error: Exception) -> str:
    """One sentence on why the hub did not give `model_id`, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"{model_id} is gated: ask for access on https://huggingface.co/{model_id}, "
            "then log in with `hf auth login` or set HF_TOKEN."
        )
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return (
            f"'{model_id}' is neither a folder here nor a model on the Hugging Face hub: check the spelling; "
            "if it is private, log in with `hf auth login`."
        )
    if isinstance(error, errors.SafetensorsParsingError):
        return f"The weights of {model_id} on the hub have no readable safetensors header ({_first_line(error)})."
    if _status(error) in (401, 403):
        return f"The hub refuses to give {model_id} to this login ({_first_line(error)}): log in with `hf auth login`."
    return (
        f"{model_id} is not in the local cache and the hub cannot be reached ({_first_line(error)}): pass a folder "
        f"with config.json and the weights, or run `hf download {model_id}` where there is a network and set HF_HOME "
        "to that cache."
    )


def _fetch_config(library: HubLibrary, model_id: str) -> Path | None:
    from huggingface_hub import errors

    try:
        return Path(library.hf_hub_download(model_id, _CONFIG, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        # The list comes first: without a network it fails at once, where a download retries for half a minute, and
        # asking for access is vain where there is nothing to load.
        is_there = _CONFIG in _list_files(library, model_id)
    return Path(library.hf_hub_download(model_id, _CONFIG)) if is_there else None


def _has_config(library: HubLibrary, model_id: str) -> bool:
    from huggingface_hub import errors

    try:
        return _CONFIG in _list_files(library, model_id)
    except errors.RepositoryNotFoundError:
        return False


def _list_files(library: HubLibrary, model_id: str) -> tuple[str, ...]:
    return tuple(sibling.rfilename for sibling in library.model_info(model_id).siblings or ())


def _fetch_tensors(library: HubLibrary, model_id: str) -> tuple[Tensor, ...] | None:
    from huggingface_hub import errors

    try:
        found = library.get_safetensors_metadata(model_id)
    except errors.NotASafetensorsRepoError:
        return None
    tensors = (item for file in found.files_metadata.values() for item in file.tensors.items())
    return tuple(Tensor(name, info.dtype, tuple(info.shape)) for name, info in tensors)


def _status(error: Exception) -> int | None:
    cause = error.__cause__ or error
    return getattr(getattr(cause, "response", None), "status_code", None)


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(cause).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Switches progress bars off: the screen belongs to whoever asked."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    were_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not were_disabled:
            enable_progress_bars()
