"""What tests stand on: a real broker, a real swarm, waiting for conditions."""
