"""Libraries that the services are built from. They never import a service."""
