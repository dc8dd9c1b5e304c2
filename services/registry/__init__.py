"""registry: owns identity, policy, status and lineage of personas, and the loop's desired state."""
