"""Child processes, signals, ports, shared memory and whole files: the parts of a system that several rooms need."""
