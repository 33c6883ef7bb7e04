"""One answer from a process of its own, so that the agent stays clean of what the answer needs."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from autofit.domain.ending import death_text
from autofit.probing.protocol import CheckInputs, DescribeModel, Message, Refused, read_command, read_message, to_line
from autofit.process.build_locks.stale_locks import taking_locks_of
from autofit.worker.agent.agent_folder import use_temporary_folder
from autofit.worker.agent.fork_server import ProcessLost, death_signal, fork
from autofit.worker.agent.forked_process import settle
from autofit.worker.agent.line_reader import LineReader, wait_or_interrupt


def answer_in_child(context: ForkServerContext, command: CheckInputs | DescribeModel, commands: LineReader) -> Message:
    """What the child says to `command`; ProcessLost when a signal ends it, CommandsClosed, with nothing left running,
    when `commands` end."""
    process, answer = fork(context, _MAINS[type(command)], to_line(command))
    try:
        wait_or_interrupt([answer], commands)
        return read_message(answer.recv_bytes())
    except EOFError:
        process.join()
        raise lost(process, _NAMES[type(command)], command.log_path) from None
    finally:
        if process.is_alive() and process.pid is not None:
            with taking_locks_of(process.pid):
                process.kill()
                process.join()
        process.join()


def lost(process: BaseProcess, what: str, log_path: str) -> Exception:
    """What is raised over a process, which has ended, that was to answer: ProcessLost where a signal ended it."""
    if (number := death_signal(process)) is not None:
        return ProcessLost(f"{what} {death_text(number)}; its log is {log_path}")
    return RuntimeError(f"{what} ended without an answer; see {log_path}")


def _check_inputs(line: bytes, answer: Connection) -> None:
    from autofit.worker.training import input_check

    command = read_command(line)
    assert isinstance(command, CheckInputs)
    settle(command.log_path)
    use_temporary_folder()
    answer.send_bytes(to_line(input_check.run(command)))


def _describe(line: bytes, answer: Connection) -> None:
    import transformers

    from autofit.domain.errors import UsageError
    from autofit.probing.protocol import ModelDescribed, Undescribed
    from autofit.worker.model.description import describe
    from autofit.worker.model.unbuildable import first_sentence

    command = read_command(line)
    assert isinstance(command, DescribeModel)
    settle(command.log_path)
    transformers.logging.set_verbosity_error()
    try:
        message: Message = ModelDescribed(describe(command.request))
    except UsageError as error:
        message = Refused(str(error))
    except Exception as error:  # of whatever its class does while it is built
        traceback.print_exc()  # into the log
        message = Undescribed(first_sentence(error) or "its code does not run on tensors without memory")
    answer.send_bytes(to_line(message))


_NAMES: dict[type, str] = {CheckInputs: "the look at the data", DescribeModel: "the description of the model"}
_MAINS: dict[type, Callable[[bytes, Connection], None]] = {CheckInputs: _check_inputs, DescribeModel: _describe}
