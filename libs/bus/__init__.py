"""The thin layer over nats-py: connection, acknowledged publishes, ordered reads, work queue, presence."""
