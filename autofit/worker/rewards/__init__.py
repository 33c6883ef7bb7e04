"""What rewards answers that are generated: functions of the user's, and reward models."""
