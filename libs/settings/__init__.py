"""Settings: read from the environment once at process start, validated, frozen."""
