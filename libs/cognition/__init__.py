"""How a thought becomes events: pure functions that thinker, scheduler and compressor share."""
