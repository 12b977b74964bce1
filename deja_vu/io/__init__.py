"""Files: written whole or not at all, held by one process at a time; videos, images, assets, frames of a tracked video; provenance."""
