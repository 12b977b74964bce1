"""The style of the page: its title, its colors, its layout on phones."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import viser

BRAND = (74, 88, 201)
"""Color of sliders and buttons, as on the exported page."""
LIGHT = (255, 255, 255)
"""Background of the picture where the system is light."""
DARK = (19, 20, 22)
"""Background of the picture where the system is dark."""
SCHEME = "deja-vu.scheme"
"""Where a browser notes whether its system is dark."""
PATIENCE = 5.0
"""Longest wait for that note, seconds."""
STYLE = """<style>
p.mantine-Text-root { overflow-wrap: normal !important; letter-spacing: normal !important; }
#webgl-software-rendering { display: none; }  /* covers the head, and exact pictures need no WebGL */
@media (max-width: 36em) {
  div:has(> div > canvas) { height: 55dvh !important; }
  .mantine-Paper-root:has(.mantine-ScrollArea-root) { left: 0 !important; right: 0 !important; width: 100% !important; }
  .mantine-Paper-root div:has(.mantine-ScrollArea-root), .mantine-ScrollArea-root { width: 100% !important; }
  .mantine-ScrollArea-content > div { width: 100% !important; }
  .mantine-Paper-root:has(.mantine-ScrollArea-root), .mantine-Paper-root .mantine-ScrollArea-viewport { max-height: 45dvh !important; }
}
</style>"""


def dress(client: viser.ClientHandle, title: str) -> bool:
    """Give one visitor's page its title and style, and the colors of the visitor's system.

    Args:
        client: the visitor.
        title: of the browser's tab.

    Returns:
        Whether the page is dark.
    """
    client.gui.add_html(STYLE)
    scheme = (
        f"localStorage.setItem({json.dumps('viser-user:' + SCHEME)}, matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')"
    )
    run_script(client, f"document.title = {json.dumps(title)}; {scheme}")
    dark = False
    with contextlib.suppress(RuntimeError, TimeoutError):  # a browser that keeps no notes, or a visitor who left, gets the light page
        dark = client.local_storage.get_item(SCHEME, timeout=PATIENCE) == "dark"
    client.gui.configure_theme(dark_mode=dark, brand_color=BRAND, control_width="medium", show_logo=False, show_share_button=False)
    return dark


def run_script(client: viser.ClientHandle, source: str) -> None:
    """Run a script in one visitor's page; viser does so itself to start its plots, but has no public way to."""
    from viser._messages import RunJavascriptMessage

    client.gui._websock_interface.queue_message(RunJavascriptMessage(source=source))
