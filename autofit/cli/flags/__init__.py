"""What may stand on a command line: autofit's own flags, recipes, and DeepSpeed's options."""
