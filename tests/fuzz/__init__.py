"""Every parser under arbitrary input: a clean result, or a sentence of ours, and never long."""
