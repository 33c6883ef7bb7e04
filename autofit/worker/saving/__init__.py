"""A model written to its files in a stream: no rank holds more of it than it trains with."""
