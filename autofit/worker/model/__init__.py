"""A request's model: its configuration, what its class can do, where adapters go, and how it is loaded."""
