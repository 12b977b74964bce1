"""Files: videos, images, downloaded assets, frames of a tracked video."""
