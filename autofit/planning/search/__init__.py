"""Which strategy to probe next, and when to stop."""
