"""The locks of torch's builds of extensions: who is at one, waiting for it, and taking lost ones away."""
