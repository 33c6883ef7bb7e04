"""Probes on all nodes of a job."""
