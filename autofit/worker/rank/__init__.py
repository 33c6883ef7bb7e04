"""One rank's life: its place, its memory, its failures, its report."""
