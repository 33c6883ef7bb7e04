"""The entry of `python -m autofit`."""

import os
import sys

try:
    here = os.getcwd()
except FileNotFoundError:  # it was removed, and Python has put nothing first
    here = ""
if sys.path[:1] == [here] and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # where `-m` has put the working directory: a user's json.py must not stand for Python's

from autofit.cli.main import main

main()
