"""Recipes: each file is one stage, read from top to bottom. Installed as `deja_vu.pipelines`."""
