"""Capture and replay [H18]."""
