"""Structured concurrency: tasks with an owner, waits with an end."""
