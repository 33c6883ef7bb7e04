"""Pure planning: the ladder, the estimates, the policy, the DeepSpeed config."""
