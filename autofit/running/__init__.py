"""The full run: started, watched, resumed; the hand-over to DeepSpeed's launcher."""
