"""Training: the training loop, its schedule, and the run folder."""
