// What was said on a connection, line by line.

import { h, moment } from "./dom.js";

const LINE_CHARACTERS = 400;
const LINES_AT_ONCE = 30;       // of one piece; the others are shown when asked for
const NAMES = { C: "client", S: "server", "*": "note" };
const STRANGE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu;

/** Return text in which nothing is invisible and nothing turns the direction of reading. */
export function plain(text) {
  const cut = text.length > LINE_CHARACTERS ? text.slice(0, LINE_CHARACTERS) : text;
  const parts = [];
  let from = 0;
  for (const found of cut.matchAll(STRANGE)) {
    if (found[0] === "\t") continue;
    parts.push(cut.slice(from, found.index), h("span", { class: "odd" },
      `U+${found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`));
    from = found.index + found[0].length;
  }
  parts.push(cut.slice(from));
  if (cut !== text) parts.push(mark(`${text.length - cut.length} more characters`));
  return parts;
}

function mark(words) { return h("span", { class: "mark" }, words); }

/** Return the list's items for one piece that was said: a line each. `bare`: its line end was left away. */
export function itemsOf({ at, who, text, faults = [], bare = false }) {
  if (who === "*") return [item(at, who, plain(text), faults)];
  const lines = text.match(/[^\n]*\n|[^\n]+/g) ?? [""];
  const items = lines.slice(0, LINES_AT_ONCE).map((line, index) => {
    const end = bare || line.endsWith("\r\n") ? "" : line.endsWith("\n") ? "LF alone" : "no line end";
    return item(at, who, [plain(line.replace(/\r?\n$/, "")), end && mark(end)], index ? [] : faults, index > 0);
  });
  if (lines.length > LINES_AT_ONCE) items.push(rest(at, who, lines.slice(LINES_AT_ONCE)));
  return items;
}

function rest(at, who, lines) {
  const more = h("li", { class: `line who-${who === "*" ? "n" : who}` });
  more.append(h("span", { class: "at" }), h("span", { class: "who" }), h("button", { type: "button",
    class: "small", click: () => {
      const items = itemsOf({ at, who, text: lines.slice(0, 1000).join("") });
      items.forEach((one) => one.classList.add("goes-on"));
      more.replaceWith(...items);
    } }, `Show ${lines.length.toLocaleString("en")} more lines`));
  return more;
}

function item(at, who, content, faults, goesOn = false) {
  return h("li", { class: `line who-${who === "*" ? "n" : who}${goesOn ? " goes-on" : ""}` },
    h("span", { class: "at" }, moment(at, true)),
    h("span", { class: "who" }, h("span", { "aria-hidden": "true" }, who === "*" ? "·" : `${who}:`),
      h("span", { class: "unseen" }, `${NAMES[who]}: `)),
    h("span", { class: "said" }, content,
      faults.map((one) => h("span", { class: "badge warn" }, h("span", { class: "unseen" }, "fault "), one))));
}

/** A transcript that grows; it follows its end as long as the reader is there. */
export class Transcript {
  constructor(label) {
    this.list = h("ol", { class: "transcript", role: "log", "aria-label": label, tabindex: "0" });
    this.jump = h("button", { type: "button", class: "jump small", hidden: true, click: () => this.follow() },
      "Jump to the latest");
    this.list.addEventListener("scroll", () => { this.jump.hidden = this.atEnd(); });
    this.element = h("div", { class: "transcript-box" }, this.list, this.jump);
  }

  atEnd() { return this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 40; }

  follow() { this.list.scrollTop = this.list.scrollHeight; this.jump.hidden = true; }

  add(pieces) {
    const following = this.atEnd();
    this.list.append(...pieces.flatMap(itemsOf));
    if (following) this.follow();
    else this.jump.hidden = false;
  }
}
