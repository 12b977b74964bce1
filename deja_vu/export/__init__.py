"""Avatars as files that other programs read."""
