"""A script that somebody else wrote: the line that starts it, looks at it, its probes and its search."""
