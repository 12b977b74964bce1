"""A page in the browser to look at avatars and move them."""
