// The same avatar for pages of other people's making: `DejaVu.load(url, { canvas })`.

import { DejaVu } from "./avatar.js";

globalThis.DejaVu = DejaVu;
