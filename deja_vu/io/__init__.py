"""Files, written completely or not at all and by one process at a time; videos, images, assets, tracked frames; provenance."""
