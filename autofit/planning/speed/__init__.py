"""How long a strategy takes for an optimizer step."""
