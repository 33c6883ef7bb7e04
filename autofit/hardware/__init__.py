"""Looking at the machine: GPUs, the host around them, and installed tools. No torch."""
