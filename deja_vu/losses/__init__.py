"""Image losses, and the prior terms that keep an avatar's maps plausible."""
