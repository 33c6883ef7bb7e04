"""The edge to the Hugging Face hub: a few questions about a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from .hub_error import hub_errors, translated
from .repository import CONFIG, HubFile
from .weights import Tensor

T = TypeVar("T")


class HubLibrary(Protocol):
    """What is used of the module `huggingface_hub`."""

    def hf_hub_download(self, repo_id: str, filename: str) -> str: ...

    def model_info(self, repo_id: str, *, files_metadata: bool) -> Any: ...

    def get_safetensors_metadata(self, repo_id: str) -> Any: ...


@dataclass(frozen=True)
class Listing:
    """The files of a model's main branch, which are public even where their content is not."""

    commit: str
    files: tuple[HubFile, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(file.name for file in self.files)


class Hub:
    """Questions about one model on the hub; each raises UsageError when the hub does not answer, HubUnavailable where
    it may another time."""

    def __init__(self, library: HubLibrary | None = None) -> None:
        self._library = library

    def find(self, model_id: str) -> Listing | None:
        """The model's files; None where there is no such model."""
        return self._ask(model_id, lambda library: _find(library, model_id))

    def fetch(self, model_id: str, name: str) -> Path:
        """Where a small file of the model lies in the local cache, fetched when it is not there yet."""
        return self._ask(model_id, lambda library: Path(library.hf_hub_download(model_id, name)))

    def config_path(self, model_id: str) -> Path:
        """Where the model's config.json lies in the local cache."""
        return self.fetch(model_id, CONFIG)

    def tensors(self, model_id: str) -> tuple[Tensor, ...] | None:
        """Every tensor of the model, from the headers alone; None when its weights are no safetensors."""
        return self._ask(model_id, lambda library: _fetch_tensors(library, model_id))

    def _ask(self, model_id: str, question: Callable[[HubLibrary], T]) -> T:
        import huggingface_hub

        library = self._library or cast(HubLibrary, huggingface_hub)
        try:
            with _quiet():
                return question(library)
        except hub_errors() as error:
            raise translated(model_id, error) from error


def _find(library: HubLibrary, model_id: str) -> Listing | None:
    from huggingface_hub import errors

    try:
        info = library.model_info(model_id, files_metadata=True)
    except errors.GatedRepoError:
        raise
    except errors.RepositoryNotFoundError:
        return None
    return Listing(info.sha, tuple(HubFile(one.rfilename, one.size or 0) for one in info.siblings or ()))


def _fetch_tensors(library: HubLibrary, model_id: str) -> tuple[Tensor, ...] | None:
    from huggingface_hub import errors

    try:
        found = library.get_safetensors_metadata(model_id)
    except errors.NotASafetensorsRepoError:
        return None
    tensors = (item for file in found.files_metadata.values() for item in file.tensors.items())
    return tuple(Tensor(name, info.dtype, tuple(info.shape)) for name, info in tensors)


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
