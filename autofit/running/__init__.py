"""The full run: start, watch, resume."""
