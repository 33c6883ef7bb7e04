"""The agent of a node: the fork server, and the ranks of a probe as those who forked them see them."""
