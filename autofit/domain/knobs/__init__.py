"""The knobs, each declared once: its values, where they work, and how they are written."""
