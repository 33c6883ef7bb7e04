"""The choice in the words of another tool."""
