"""Clips and pictures of events, made of what a camera's capture has kept."""
