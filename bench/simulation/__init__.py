"""A day of a swarm in seconds: the scheduler's own parts under a clock that jumps."""
