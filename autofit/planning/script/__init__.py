"""A script that somebody else wrote: what may be tuned in it, and how a strategy is put into its words."""
