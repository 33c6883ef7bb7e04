"""The space of strategies: knobs, what works where, and the ladder of one request."""
