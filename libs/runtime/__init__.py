"""What makes a process a process: logs, metrics, health, signals, presence, one lifespan."""
