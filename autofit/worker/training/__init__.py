"""autofit's own training: the trainer, for probes and for the full run."""
