"""Files: written whole or not at all, held by one process at a time; videos, images, downloaded assets, frames of a tracked video."""
