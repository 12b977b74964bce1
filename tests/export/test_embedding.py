"""Pages of other people's making: the address of the exported page, messages to it, and its program as a script of theirs."""

from __future__ import annotations

import numpy as np
import pytest

from deja_vu.export.web import Clip, write_web
from tests.export.pages import hosted, on_disk, pixels, wait_until

THEIRS = """<!doctype html><title>theirs</title><link rel="icon" href="data:,">
<canvas id="one" style="width: 120px; height: 120px"></canvas><canvas id="two" style="width: 120px; height: 120px"></canvas>
<script src="deja-vu.js"></script>
<script>
  window.frames_seen = [];
  window.pair = (async () => {
    const one = DejaVu.load("avatar.bin", { canvas: "#one", controls: false, background: null });
    const two = DejaVu.load("other.bin", { canvas: document.querySelector("#two"), background: "#336699" });
    const pair = await Promise.all([one, two]);
    pair[0].on("frame", (frame) => frames_seen.push(frame));
    return pair;
  })();
</script>"""
AROUND = """<!doctype html><title>around</title><link rel="icon" href="data:,"><body style="background: rgb(255, 0, 255)">
<iframe src="index.html?ui=0&background=transparent&motion=talk&autoplay=0" style="border: 0; width: 200px; height: 200px"></iframe>
<script>
  window.heard = [];
  addEventListener("message", ({ data }) => heard.push(data));
  window.say = (message) => document.querySelector("iframe").contentWindow.postMessage(message, "*");
  window.hear = async (what) => {
    while (!heard.some(({ dejavu }) => dejavu === what)) await new Promise((resolve) => setTimeout(resolve, 20));
    return heard.find(({ dejavu }) => dejavu === what);
  };
</script>"""


@pytest.fixture(scope="module")
def folder(avatar, subject, controls, motion, tmp_path_factory):
    """An exported page with two avatars, and two pages of somebody else's beside it."""
    folder = tmp_path_factory.mktemp("embedded")
    write_web(avatar, subject, controls, [], "other", folder)
    (folder / "avatar.bin").rename(folder / "other.bin")
    write_web(avatar, subject, controls, [Clip("Talk", motion, 25.0)], "someone", folder)
    (folder / "theirs.html").write_text(THEIRS)
    (folder / "around.html").write_text(AROUND)
    return folder


@pytest.mark.parametrize("place", ["disk", "host"])
def test_two_avatars_stand_on_somebody_elses_page(place, folder, opened):
    with hosted(folder) as address:
        page = opened(f"{address}theirs.html" if place == "host" else (folder / "theirs.html").as_uri(), ready=False)
        facts = page.evaluate(
            "async () => (await pair).map(({ name, motions, controls, presets }) => ({ name, motions, controls, presets }))"
        )
    assert [fact["name"] for fact in facts] == ["someone", "other"]
    assert [fact["motions"] for fact in facts] == [["Talk"], []]
    assert facts[0]["presets"] == ["neutral", "blink"]
    assert {"jawOpen", "headYaw", "gazePitch"} <= set(facts[0]["controls"])
    clear, blue = (pixels(page.evaluate(f"async () => (await pair)[{k}].snapshot()")) for k in (0, 1))
    assert clear[0, 0].tolist() == [0, 0, 0, 0]  # nothing behind the head
    assert clear[..., 3].max() > 0.99
    np.testing.assert_allclose(blue[0, 0], np.array([0x33, 0x66, 0x99, 255]) / 255)
    before = len(page.evaluate("frames_seen"))
    page.evaluate("async () => void (await pair)[0].set({ jawOpen: 0.4, headYaw: 10 })")
    page.wait_for_function(f"frames_seen.length > {before}")
    assert page.evaluate("async () => (await pair)[0].get('headYaw')") == pytest.approx(10, abs=1e-4)
    assert page.evaluate("async () => (await pair)[1].get('headYaw')") == pytest.approx(0, abs=1e-4)
    moved = pixels(page.evaluate("async () => (await pair)[0].snapshot()"))
    assert np.abs(moved - clear).max() > 0.1


def test_an_avatar_can_be_dismissed(folder, opened):
    page = opened((folder / "theirs.html").as_uri(), ready=False)
    page.evaluate("async () => (await pair)[0].dispose()")
    drawn = len(page.evaluate("frames_seen"))
    page.evaluate("async () => void (await pair)[1].set({ headYaw: 20 })")
    wait_until(page, "(([, two]) => !two.loop.moved && !two.loop.waiting)(await pair)")
    assert len(page.evaluate("frames_seen")) == drawn


def test_what_does_not_exist_is_said(folder, opened):
    page = opened((folder / "theirs.html").as_uri(), ready=False)
    tries = """async (call) => {
      try { await new Function("a", `return ${call}`)((await pair)[0]); } catch (error) { return error.message; }
    }"""
    assert 'no control "jaw"' in page.evaluate(tries, "a.set({ jaw: 1 })")
    assert 'no motion "walk". Known here: Talk.' in page.evaluate(tries, "a.play('walk')")
    assert 'no preset "happy"' in page.evaluate(tries, "a.preset('happy')")
    assert '"reddish" is no color' in page.evaluate(tries, "a.background = 'reddish'")
    assert "must be a number" in page.evaluate(tries, "a.set({ jawOpen: 'wide' })")
    assert "absent.bin is not beside this page" in page.evaluate(tries, "DejaVu.load('absent.bin')")
    assert page.evaluate("async () => (await pair)[0].get('jawOpen')") == pytest.approx(0, abs=1e-6)
    opened.complaints.clear()  # the browser's own line about the absent file


def test_the_address_hides_the_controls_and_chooses(folder, opened):
    page = opened(f"{on_disk(folder)}?ui=0&background=ff8000&motion=talk&autoplay=0")
    for part in ("#panel", "#transport", "#tools", "#loading", "#message"):
        assert page.locator(part).is_hidden(), part
    width = page.evaluate("document.querySelector('canvas').clientWidth")
    assert width == page.viewport_size["width"]
    np.testing.assert_allclose(pixels(page.evaluate("async () => (await dejaVu).snapshot()"))[0, 0], [1, 128 / 255, 0, 1])
    state = page.evaluate("async () => { const { motion, playing, time } = await dejaVu; return [motion, playing, time]; }")
    assert state == ["Talk", False, 0]


def test_the_address_chooses_the_avatar_but_only_beside_the_page(folder, opened):
    page = opened(f"{on_disk(folder)}?avatar=other.bin")
    assert page.title() == "other · Déjà-vu"
    assert page.locator("#transport").is_hidden()  # it has no motions
    for foreign in ("https://example.com/a.bin", "//example.com/a.bin", "../a.bin", "/etc/a.bin"):
        page = opened(f"{on_disk(folder)}?avatar={foreign}", ready=False)
        page.wait_for_selector("#message:not([hidden])")
        assert "is no file in the page's folder" in page.inner_text("#reason")
    opened.complaints.clear()  # that the page wrote it to the console too


def test_a_page_around_it_moves_it_by_messages(folder, opened):
    with hosted(folder) as address:
        page = opened(f"{address}around.html", ready=False)
        ready = page.evaluate("hear('ready')")
        assert (ready["name"], ready["motions"], ready["presets"]) == ("someone", ["Talk"], ["neutral", "blink"])
        inside = page.frames[1]
        page.evaluate("say({ dejavu: 'set', values: { headYaw: 15 } })")
        wait_until(inside, "Math.abs((await dejaVu).get('headYaw') - 15) < 1e-3")
        page.evaluate("heard.length = 0, say({ dejavu: 'play', motion: 'Talk' })")
        assert page.evaluate("hear('motion')") == {"dejavu": "motion", "motion": "Talk", "playing": True}
        page.evaluate("say({ dejavu: 'pause' })")
        page.evaluate("say({ dejavu: 'snapshot' })")
        picture = pixels(page.evaluate("hear('snapshot')")["url"])
        assert picture[0, 0].tolist() == [0, 0, 0, 0]
        page.evaluate("say({ dejavu: 'dance' })")
        assert 'no message "dance"' in page.evaluate("hear('error')")["message"]


def test_a_page_shows_that_it_loads(folder, opened):
    with hosted(folder) as address:
        page = opened(f"{address}theirs.html", ready=False)
        held = []
        page.route("**/avatar.bin", lambda route: held.append(route))
        page.goto(f"{address}index.html", wait_until="domcontentloaded")
        page.wait_for_selector("#loading:not([hidden])")
        assert page.inner_text("#step") == "Loading"
        assert page.title() == "someone · Déjà-vu"  # before the avatar is there
        page.wait_for_timeout(100)
        held[0].continue_()
        page.evaluate("dejaVu.then(({ name }) => name)")
        assert page.locator("#loading").is_hidden()


def test_without_webgl_the_page_says_what_to_do(folder, browser):
    page = browser.new_page()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.goto(on_disk(folder))
    page.wait_for_selector("#message:not([hidden])")
    assert "Turn on hardware acceleration" in page.inner_text("#reason")
    assert page.locator("#pick").is_hidden()  # another file would not help
    page.close()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844), (844, 390)], ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_whole_head_is_seen_on_every_screen(size, scheme, folder, browser, capture, screenshots):
    """Not cut by the picture's edge, not under a button; picture and page of one color."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.goto(on_disk(folder))
    page.evaluate("dejaVu.then(({ name }) => name)")
    picture = pixels(page.evaluate("async () => (await dejaVu).snapshot()"))[..., :3]
    capture(page, screenshots / f"page_{size[0]}_{scheme}.png")
    inside = np.argwhere(np.abs(picture - picture[0, 0]).max(-1) > 0.05)
    scale = page.evaluate("document.querySelector('canvas').clientWidth") / picture.shape[1]
    top, left, bottom, right = (scale * np.concatenate([inside.min(0), inside.max(0) + 1])).tolist()
    assert min(top, left) > 4
    assert bottom < scale * picture.shape[0] - 4
    assert right < scale * picture.shape[1] - 4
    assert bottom - top > 0.35 * min(picture.shape[:2]) * scale
    for tool in page.locator("#tools button:visible").all():
        box = tool.bounding_box()
        assert box["y"] + box["height"] < top or box["x"] > right, "a button covers the head"
    body = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert body == "rgb({}, {}, {})".format(*(round(255 * level) for level in picture[0, 0]))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight")
    context.close()
