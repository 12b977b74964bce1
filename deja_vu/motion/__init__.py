"""Motions to move an avatar with: where they come from, and how they are carried over to another person."""
