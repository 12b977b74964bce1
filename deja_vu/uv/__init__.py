"""The head's surface as an image: which texel shows which point, and how texels follow the posed head."""
