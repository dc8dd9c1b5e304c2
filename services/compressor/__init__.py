"""compressor: the only writer of the public streams; folds snapshots and proposals from the journal."""
