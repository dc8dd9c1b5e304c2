"""scheduler: owns tick counters, recent context and the journal of its shards."""
