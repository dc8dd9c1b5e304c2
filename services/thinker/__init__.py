"""thinker: runs a model, and nothing else. It keeps nothing it cannot lose."""
