"""The door `python -m autofit.worker.merge`: the name that stands in the `command.sh` of run folders."""

from autofit.worker.training.full_run.merge_adapter import main

if __name__ == "__main__":
    main()
