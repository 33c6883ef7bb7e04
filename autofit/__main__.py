"""The entry of `python -m autofit`."""

from autofit.cli.main import main

main()
