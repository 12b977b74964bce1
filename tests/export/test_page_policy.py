"""The exported page tells nobody anything, whatever is in it."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading

import pytest

from tests.export.pages import hosted, on_disk

REACH = """async (address) => {
  const refused = [];
  addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
  const tries = {
    fetch: () => fetch(address, { mode: "no-cors" }),
    request: () => new Promise((done, fail) => {
      const request = new XMLHttpRequest();
      request.open("POST", address);
      request.onload = done;
      request.onerror = fail;
      request.send("usage");
    }),
    socket: () => new Promise((done, fail) => {
      const socket = new WebSocket(address.replace("http", "ws"));
      socket.onopen = done;
      socket.onerror = fail;
    }),
    picture: () => new Promise((done, fail) => Object.assign(new Image(), { onload: done, onerror: fail, src: address })),
    program: () => import(address),
  };
  const reached = [];
  for (const [name, go] of Object.entries(tries)) await go().then(() => reached.push(name), () => {});
  navigator.sendBeacon(address, "usage");
  await new Promise((done) => setTimeout(done, 300));
  return { reached, refused: refused.length };
}"""


class Listener(http.server.BaseHTTPRequestHandler):
    """Notes who reached it."""

    def do_GET(self):
        self.server.heard.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, *arguments):
        """Nothing to the terminal."""


@pytest.mark.parametrize("where", ["disk", "server"])
def test_the_page_can_reach_nobody(exported_page, opened, where):
    """Whatever a library in it tries: its policy forbids every way, and a server beside it hears nothing."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as listener:
        listener.heard = []
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        with contextlib.ExitStack() as stack:
            address = on_disk(exported_page) if where == "disk" else stack.enter_context(hosted(exported_page))
            page = opened(address)
            found = page.evaluate(REACH, f"http://127.0.0.1:{listener.server_address[1]}/usage")
            page.context.close()
        listener.shutdown()
    opened.complaints.clear()  # the browser tells of each refusal
    assert found["reached"] == []
    assert found["refused"] >= 6
    assert listener.heard == []


def test_the_page_knows_no_address(exported_page):
    """MediaPipe's reports to its publisher are cut out when the page is built."""
    page = (exported_page / "index.html").read_text()
    assert {address for address in re.findall(r"https?://[\w./-]+", page)} <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xhtml"}
