"""Looking at what there is: GPUs, the host around them, installed tools, and a model's files. No torch."""
