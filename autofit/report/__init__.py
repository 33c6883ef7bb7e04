"""What people read: the terminal and the run folder."""
