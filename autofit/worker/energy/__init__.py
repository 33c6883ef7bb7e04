"""What a rank's work takes of energy, by counters of the hardware."""
