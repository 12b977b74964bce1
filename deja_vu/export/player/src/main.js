// The page: what the user moves becomes a pose and a camera; the player draws them.

import { load } from "./container.js";
import { Player } from "./player.js";
import { Stage } from "./stage.js";
import { buildPanel } from "./panel.js";

const $ = (id) => document.getElementById(id);

function fail(error) {
  console.error(error);
  $("message").hidden = false;
  $("reason").textContent = error.message;
}

async function start(source) {
  const rig = await load(source);
  const player = new Player($("view"), rig);
  const stage = new Stage($("view"), player);
  document.title = `${rig.facts.name} · Déjà-vu`;
  $("message").hidden = true;
  buildPanel($("panel"), stage);
  stage.run();
  return stage;
}

$("file").addEventListener("change", (event) => start(event.target.files[0]).then(ready, fail));

let ready;
// For tests and for pages that embed this one: the running stage.
window.dejavuStage = new Promise((resolve) => (ready = resolve));
start("avatar.bin").then(ready, fail);
