"""A page in the browser on which avatars are looked at and moved."""
