"""The Gaussian avatar and what weighs its blendmaps."""
