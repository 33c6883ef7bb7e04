"""What a micro-step of each task computes, one module a task, and the registry of them."""
