"""A probe of a script apart from the user's files."""
