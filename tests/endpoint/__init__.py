"""The endpoint thinker, against real servers with real faults."""
