// The page: an avatar, the controls around it, and what is shown while it loads or when it cannot.

import { asked } from "./address.js";
import { DejaVu } from "./avatar.js";
import { Backdrop } from "./backdrop.js";
import { KEYS, listen } from "./keys.js";
import { obey, tell } from "./messages.js";
import { buildPanel, buildTools } from "./panel.js";
import { buildTransport } from "./transport.js";

const $ = (id) => document.getElementById(id);

function fail(error) {
  console.error(error);
  $("loading").hidden = true;
  $("message").hidden = false;
  $("reason").textContent = error.message;
  $("pick").hidden = error.remedy !== "pick";
  tell("error", { message: error.message });
}

/** How far loading is; null once only computing is left. */
function progress(share) {
  const bar = $("progress");
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
  $("step").textContent = share === null ? "Preparing" : "Loading";
}

async function start(source, wanted) {
  $("message").hidden = true;
  $("loading").hidden = false;
  const avatar = await DejaVu.load(source, { canvas: $("view"), onProgress: progress });
  document.title = `${avatar.name} · Déjà-vu`;
  $("loading").hidden = true;
  const backdrop = new Backdrop(avatar, wanted.background);
  if (wanted.ui) {
    buildPanel($("panel"), avatar, backdrop, KEYS);
    buildTransport($("transport"), avatar);
    buildTools($("tools"), avatar);
    $("panel").hidden = false;
  }
  if (wanted.ui) {
    $("unfilmed").textContent = avatar.facts.words.unfilmed;
    avatar.on("frame", () => ($("unfilmed").hidden = avatar.filmed));
  }
  listen(avatar, wanted.ui);
  avatar.on("lost", () => fail(new Error("The browser took the graphics card away from this page. Load the page again.")));
  if (wanted.motion !== null) {
    avatar.play(wanted.motion);
    if (!wanted.autoplay) avatar.pause();
  }
  obey(avatar);
  return avatar;
}

let ready;
/** For pages of the same origin that embed this one, and for tests: the avatar once it is shown. */
window.dejaVu = new Promise((resolve) => (ready = resolve));
try {
  const wanted = asked();
  document.body.classList.toggle("bare", !wanted.ui);
  $("file").addEventListener("change", (event) => start(event.target.files[0], wanted).then(ready, fail));
  start(wanted.avatar, wanted).then(ready, fail);
} catch (error) {
  fail(error);
}
