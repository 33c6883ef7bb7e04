"""What processes leave in the file system for each other and for those after them."""
