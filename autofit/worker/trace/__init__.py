"""Traces of the real model on fake tensors."""
