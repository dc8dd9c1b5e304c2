"""The `perpetua` command line."""
