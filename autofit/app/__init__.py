"""The stories of the verbs, each told once (train, plan, launch, tune), and what they share."""
