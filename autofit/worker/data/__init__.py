"""The training data, from files to tokens and labels."""
