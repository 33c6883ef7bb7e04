"""What rows of training data are: their form, what is learned of them, how wide they make a batch."""
