"""Recipes that override the defaults, installed as `deja_vu.configs`."""
