"""Probes: the agent handle and the protocol it speaks."""
