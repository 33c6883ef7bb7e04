"""LOMO and AdaLomo: a parameter is updated in the backward pass, as soon as its gradient is there, which is dropped."""
