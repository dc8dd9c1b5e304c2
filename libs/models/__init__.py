"""Models on this machine: fetching, converting, checking and keeping them. Torch is needed for none of it."""
