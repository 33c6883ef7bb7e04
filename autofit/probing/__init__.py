"""Probes: the handle of the local agent, the protocol, and how the ends of ranks become one outcome."""
