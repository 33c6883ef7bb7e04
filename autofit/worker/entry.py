"""The door `python -m autofit.worker.entry`: the name that stands in the `command.sh` of run folders."""

from autofit.worker.script.full_run_entry import main

if __name__ == "__main__":
    main()
