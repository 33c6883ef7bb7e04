"""Python imports this at its start where the folder is on PYTHONPATH: it lets a test make this process fail."""

from tests.faults.saboteur import lie_in_wait

lie_in_wait()
