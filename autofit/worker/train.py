"""The door `python -m autofit.worker.train`: the name that stands in the `command.sh` of run folders."""

from autofit.worker.training.full_run.full_run_rank import main

if __name__ == "__main__":
    main()
