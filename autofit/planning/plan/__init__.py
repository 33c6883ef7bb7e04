"""What is said before anything is tried: what fits, what it costs, what would help, what a rehearsal adds."""
