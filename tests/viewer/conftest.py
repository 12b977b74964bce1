"""The painted toy head and its film, as the pipelines' tests make them."""

from __future__ import annotations

from tests.pipelines.conftest import film, painted

painted_toy = painted
__all__ = ["film", "painted", "painted_toy"]
