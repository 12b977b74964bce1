"""Scripts of maintainers: each makes an asset that the package ships."""
