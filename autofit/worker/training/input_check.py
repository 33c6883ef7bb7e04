"""What a dry run looks at of data and arguments: the first rows, and the words after `--`."""

from __future__ import annotations

from autofit.domain.errors import UsageError, error_text
from autofit.domain.request import Request
from autofit.probing.protocol import CheckInputs, InputsChecked, Refused
from autofit.worker.data.first_rows import check_first_rows
from autofit.worker.training.argument_checks import check_arguments
from autofit.worker.training.trainer_arguments import extra_arguments


def run(command: CheckInputs) -> InputsChecked | Refused:
    """Nothing, or the sentence that says why nothing can start."""
    try:
        check_inputs(command.request)
    except UsageError as error:
        return Refused(str(error))
    except (ValueError, RuntimeError, OSError) as error:  # transformers and datasets speak for themselves, as in survey
        return Refused(error_text(error, 500))
    return InputsChecked()


def check_inputs(request: Request) -> None:
    """Checks what takes no time, however much data there is; UsageError for the first thing that is wrong."""
    check_arguments(request, extra_arguments(request))
    for source in filter(None, (request.data, request.eval_data)):
        check_first_rows(source, request.task)
