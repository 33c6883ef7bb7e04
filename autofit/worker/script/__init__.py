"""A script that somebody else wrote: probed, patched at run time, and run."""
