"""DeepSpeed's launcher and engine, hooked from outside."""
