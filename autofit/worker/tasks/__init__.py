"""What each task is to a trainer: one module a task, and the registry of them."""
