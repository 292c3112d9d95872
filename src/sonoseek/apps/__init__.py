"""Apps: parse, call, show; nothing else."""
