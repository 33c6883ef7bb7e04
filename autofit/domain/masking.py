"""Text that may be shown and kept: without the secrets that an error may quote."""

from __future__ import annotations

import re
from collections.abc import Mapping

MASK = "***"
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|_KEY|_KEY_ID|CREDENTIALS|CONNECTION_STRING)$", re.IGNORECASE)
_SHORTEST = 6  # characters: what is shorter stands by chance in any text
_URL_LOGIN = re.compile(r"(?<=://)[^/\s'\"]*@")


def masked(text: str, environment: Mapping[str, str]) -> str:
    """The text with a mask for each value of a variable whose name says that it is secret, such as HF_TOKEN or
    AWS_SECRET_ACCESS_KEY, and without the login in an address, as in `http://name:password@proxy`."""
    for secret in sorted(_secrets(environment), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _URL_LOGIN.sub("", text)


def _secrets(environment: Mapping[str, str]) -> set[str]:
    found = {value.strip() for name, value in environment.items() if _SECRET_NAME.search(name)}
    return {secret for secret in found if len(secret) >= _SHORTEST}
