"""Starting a process from the fork server, as the one who asks for it."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any


def fork(context: ForkServerContext, target: Callable[..., Any], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """It runs `target(*arguments, sending)`; what it sends is heard on the second of the pair, EOFError at its end."""
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sending), daemon=True)
    process.start()
    sending.close()
    return process, receiving
