"""The five processes of a swarm. A service imports libraries, never another service."""
