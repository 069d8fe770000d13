"""Training: the loop, its schedule, and the run folder that it fills."""
