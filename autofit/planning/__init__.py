"""Pure planning, by question; what all of it needs lies at the root."""
