"""Who exists, and whether the loop is to run: folded from `j.registry` and the registry's buckets."""
