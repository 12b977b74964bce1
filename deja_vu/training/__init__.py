"""Training: tasks and their loop, objectives, logging, checkpoints."""
