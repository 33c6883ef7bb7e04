"""The run folder and its records: what is kept of a run."""
