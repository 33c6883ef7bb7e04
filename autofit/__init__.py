"""autofit: finds the fastest fine-tuning configuration that fits, and trains with it."""

__version__ = "0.1.0"
