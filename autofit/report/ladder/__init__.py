"""The table of a search's ladder: what was probed, what waits, what is left out."""
