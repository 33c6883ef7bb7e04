"""How much memory a strategy takes, on a device and on a host."""
