"""The verb `autofit cache`: what is remembered, shown, exported and forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from autofit.store import Store

_AGE_UNITS_S = {"h": 3600.0, "d": 86400.0, "w": 604800.0}
_json_flag = click.option("--json", "is_json", is_flag=True, help="One JSON object.")


def _age_s(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Reads `30d` as a number of seconds."""
    if text is None:
        return None
    number, unit = text[:-1], text[-1:]
    if not (number.isdecimal() and unit in _AGE_UNITS_S):
        raise click.BadParameter(f"'{text}' is not an age; write it like 12h, 30d or 4w.", context, parameter)
    return int(number) * _AGE_UNITS_S[unit]


@click.group(invoke_without_command=True)
@_json_flag
@click.pass_context
def command(context: click.Context, /, is_json: bool) -> None:
    """What autofit remembers of earlier runs: trials, traces, constants.

    It lies in $AUTOFIT_CACHE, else in $XDG_CACHE_HOME/autofit, else in ~/.cache/autofit. Nothing breaks without it: it
    only saves probes. Without a further word this is `autofit cache list`.
    """
    if context.invoked_subcommand is None:
        context.invoke(show, is_json=is_json)
    elif is_json:
        raise click.UsageError(f"--json goes behind {context.invoked_subcommand}.", context)


@command.command("list")
@_json_flag
def show(is_json: bool) -> None:
    """The trials, by model, request and machine."""
    import sys

    from autofit.domain.codec import encode
    from autofit.report.cache_lines import cache_lines
    from autofit.report.json_screen import write_json
    from autofit.report.line import plain

    with _open() as store:
        entries, counts = store.entries(), store.counts()
    size_bytes = store.path.stat().st_size if store.path.exists() else 0
    if is_json:
        body = {"path": str(store.path), "size_bytes": size_bytes, "counts": encode(counts), "trials": encode(entries)}
        write_json(sys.stdout, body)
    else:
        click.echo(plain(cache_lines(store.path, size_bytes, counts, entries)))


@command.command()
@click.option("--older-than", "age_s", metavar="AGE", callback=_age_s, help="What was written longer ago, like 30d.")
@click.option("--model", metavar="NAME", help="Trials of this model, as `autofit cache list` writes it.")
@click.option("--all", "is_all", is_flag=True, help="Everything, a damaged file too.")
def prune(age_s: float | None, model: str | None, is_all: bool) -> None:
    """Forget what is old, what is of one model, or everything."""
    if is_all and (age_s is not None or model is not None):
        raise click.UsageError("--all leaves nothing for --older-than and --model to choose from.")
    if is_all:
        click.echo(_remove())
    elif age_s is None and model is None:
        raise click.UsageError("Say what to forget: --older-than, --model or --all.")
    else:
        with _open() as store:
            click.echo(f"forgot {store.prune(older_than_s=age_s, model=model)}")


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
def export(file: Path | None) -> None:
    """Write the trials as JSON lines.

    Each with all that it depends on, to FILE or to the screen.
    """

    from autofit.domain.codec import encode, to_json
    from autofit.runs.json_file import with_schema, write_text

    with _open() as store:
        lines = [to_json(with_schema(encode(trial))) + "\n" for trial in store.remembered()]
    if file is None:
        click.echo("".join(lines), nl=False)
        return
    try:
        write_text(file, "".join(lines))
    except OSError as error:
        raise click.UsageError(f"{file} cannot be written: {error.strerror}.") from error
    click.echo(f"wrote {len(lines):,} trial{'' if len(lines) == 1 else 's'} to {file}")


@contextmanager
def _open() -> Iterator[Store]:
    """The store, empty where there is no file; an AutofitError when it turns out to be of no use."""
    from autofit.domain.errors import AutofitError
    from autofit.store import open_store

    store = open_store()
    with store if store.path.exists() else nullcontext():
        yield store
    if store.trouble is not None:
        raise AutofitError(f"{store.trouble}.\n`autofit cache prune --all` removes it, and a new one is begun.")


def _remove() -> str:
    """Removes the whole file, since a damaged one cannot be emptied; gives what was in it, as a sentence."""
    from autofit.domain.errors import AutofitError
    from autofit.store import open_store
    from autofit.store.location import remove_store

    store = open_store()
    if not store.path.exists():
        return f"there is nothing at {store.path}"
    with store:
        counts = store.counts()
    try:
        remove_store(store.path)
    except OSError as error:
        raise AutofitError(f"{store.path} cannot be removed: {error.strerror}.") from error
    return f"removed {store.path}" if store.trouble is not None else f"forgot {counts}"
