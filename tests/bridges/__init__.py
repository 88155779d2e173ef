"""Bridges, against real files, servers and publish stages."""
