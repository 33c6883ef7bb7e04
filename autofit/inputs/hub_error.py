"""Every error of the hub's client as one sentence."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from autofit.domain.errors import UsageError
from autofit.domain.masking import masked


class HubUnavailable(UsageError):
    """The hub says nothing of the model now, and may another time: what lies in the cache may do."""

    def __init__(self, message: str, trouble: Trouble) -> None:
        super().__init__(message)
        self.trouble = trouble


@dataclass(frozen=True)
class Trouble:
    """Two halves of a sentence: what is wrong, and what one can do about it where that is plain."""

    what: str
    remedy: str | None = None


def hub_errors() -> tuple[type[Exception], ...]:
    """The exceptions that the hub's client raises."""
    from huggingface_hub import errors

    # The last two: an HFValidationError, and what the HTTP library says of a proxy's address that is none.
    return (_http_error(), OSError, errors.SafetensorsParsingError, ValueError, _http_library().InvalidURL)


def translated(model_id: str, error: Exception) -> UsageError:
    """Says in one sentence why the hub did not give `model_id`, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return UsageError(
            f"{model_id} is gated: ask for access and accept its licence on {_page(model_id)}, then log in with "
            "`hf auth login` or set HF_TOKEN."
        )
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)) or _status(error) == 404:
        return UsageError(unknown(model_id))
    if isinstance(error, errors.DisabledRepoError):
        return UsageError(f"{model_id} was disabled on the hub: {_page(model_id)} says more; choose another model.")
    if isinstance(error, errors.SafetensorsParsingError):
        return UsageError(
            f"The weights of {model_id} on the hub have no readable safetensors header ({_first_line(error)})."
        )
    if _status(error) in (401, 403):
        return UsageError(
            f"The hub refuses to give {model_id} to this login ({_first_line(error)}): log in with `hf auth login`."
        )
    trouble = trouble_of(error)
    elsewhere = (
        f"pass a folder with config.json and the weights, or run `hf download {model_id}` where there is a network and "
        "set HF_HOME to that cache"
    )
    return HubUnavailable(
        f"{model_id} is not whole in the local cache and {trouble.what}: {trouble.remedy or elsewhere}.", trouble
    )


def unknown(model_id: str) -> str:
    return (
        f"'{model_id}' is neither a folder here nor a model on the Hugging Face hub: check the spelling; "
        "if it is private, log in with `hf auth login`."
    )


def trouble_of(error: Exception) -> Trouble:
    """What keeps the hub from giving anything now."""
    from huggingface_hub import errors

    status, said = _status(error), _first_line(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Trouble("the disk of the cache is full", "free some there, or set HF_HOME to a folder on a larger disk")
    if isinstance(error, OSError) and error.filename is not None:
        what = f"the cache cannot be used ({error.strerror}: {error.filename})"
        return Trouble(what, "see to that there, or set HF_HOME to a folder that can be written")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Trouble("the hub cannot be reached (HF_HUB_OFFLINE is set)")
    if status == 429:
        wait = _wait(error)
        when = "in a while" if wait is None else f"in {wait} s"
        what = "the hub has had too many requests from here (429)"
        return Trouble(what, f"repeat the command {when}; who is logged in (`hf auth login`) may ask more often")
    http = _http_library()
    if status == 407 or _is(error, http.ProxyError):
        what = f"the proxy {_proxy() or ''} lets nothing through to the hub ({said})".replace("  ", " ")
        return Trouble(what, "set HTTPS_PROXY to one that does, with the name and the password that it wants")
    if status is not None and status >= 500:
        return Trouble(f"the hub has trouble of its own ({said})", "repeat the command in a while")
    if _proxy() is not None and _is(error, http.ConnectError, http.ConnectTimeout, http.InvalidURL, ValueError):
        return Trouble(
            f"the hub cannot be reached through the proxy {_proxy()} ({said})", "check HTTPS_PROXY and NO_PROXY"
        )
    return Trouble(f"the hub cannot be reached ({said})")


def _wait(error: Exception) -> str | None:
    """The seconds for which the hub asks to be left alone, by the two headers in which it may say that."""
    headers = getattr(getattr(_cause(error), "response", None), "headers", {})
    limit = re.search(r";\s*t\s*=\s*(\d+)", headers.get("ratelimit", ""))
    seconds = limit[1] if limit else headers.get("retry-after", "")
    return seconds if seconds.isdigit() else None


def _proxy() -> str | None:
    """The proxy that is asked for the hub, without its login; None where none is."""
    from huggingface_hub import constants

    hub = urlsplit(constants.ENDPOINT)
    proxies = getproxies()
    proxy = proxies.get(hub.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(hub.netloc):
        return None
    return masked(proxy, os.environ)


def _page(model_id: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{model_id}"


def _http_error() -> type[Exception]:
    """The base error of the HTTP library below: the first parent of the hub's own."""
    from huggingface_hub import errors

    return cast(type[Exception], errors.HfHubHTTPError.__bases__[0])


def _http_library() -> Any:
    """The HTTP library, which differs between releases (httpx, httpx2)."""
    return import_module(_http_error().__module__.partition(".")[0])


def _is(error: Exception, *kinds: type[Exception]) -> bool:
    return isinstance(error, kinds) or isinstance(_cause(error), kinds)


def _cause(error: Exception) -> BaseException:
    return error if getattr(error, "response", None) is not None else error.__cause__ or error


def _status(error: Exception) -> int | None:
    return getattr(getattr(_cause(error), "response", None), "status_code", None)


def _first_line(error: Exception) -> str:
    cause = _cause(error)
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[0].partition(" for url ")[0].rstrip(".") if lines else type(cause).__name__
