"""The files that a run begins with: the model's, the data's and checkpoints'. Read without torch."""
