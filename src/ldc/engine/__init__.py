"""The engine: a bank of runs over one frozen model. The only place where speed is bought with cleverness."""
