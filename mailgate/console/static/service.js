// The console of a running service: it shows what happens, and changes nothing.

import { Refused, call, signInByAddress, whenSignedOut } from "./api.js";
import { announce, counted, day, empty, failure, field, h, moment, octets, partsOf, put, show } from "./dom.js";
import { Live, showLink } from "./live.js";
import { askForToken } from "./signin.js";
import { Transcript } from "./transcript.js";

const SESSION = "/session";
const KEPT = 1000;              // sessions, of which those that have ended go first
const place = document.getElementById("view");
const sessions = new Map();
let server = null;
let current = null;
let shownAs = "";
let signedIn = false;

function forget() {
  for (const [number, one] of sessions) {
    if (sessions.size <= KEPT) return;
    if (one.ended !== null) sessions.delete(number);
  }
}

// Sessions -----------------------------------------------------------------------------------------

function sessionsView([wanted]) {
  const picked = wanted ? Number(wanted) : null;
  const list = h("ul", { class: "rows" });
  const detail = h("section", { class: "detail sheet", "aria-label": "Session" });
  const facts = h("div", { class: "in" });
  const transcript = new Transcript("Commands and status lines");
  const search = h("input", { id: "session-search", type: "search", autocomplete: "off", input: () => fill() });
  const box = h("div", { class: `split${picked ? " has-detail" : ""}` },
    h("section", { class: "overview", "aria-label": "All sessions" }, h("div", { class: "head" }, h("h1", {}, "Sessions")),
      h("div", { class: "search" }, field("Search by user, address or protocol", search)), h("div", { class: "sheet scroll", id: "list" }, list)), detail);

  function row(one) {
    return h("li", {}, h("a", { href: `#/sessions/${one.number}`, id: `session-${one.number}`, "aria-current": one.number === picked ? "true" : null },
      h("div", { class: "first" }, h("span", {}, `#${one.number} `, one.user || h("span", { class: "soft" }, one.protocol === "lmtp" ? "delivery" : "no login")),
        one.ended === null ? h("span", { class: "badge good" }, one.state || "open") : h("span", { class: "badge" }, "ended")),
      h("div", { class: "soft" }, `${one.protocol}${one.tls ? " in TLS" : ""} · ${counted(one.commands, "command")} · `, moment(one.began), ` · ${one.peer}`)));
  }

  function fill() {
    const words = search.value.trim().toLowerCase();
    const found = [...sessions.values()].sort((one, other) => (one.ended !== null) - (other.ended !== null) || other.number - one.number)
      .filter((one) => !words || `${one.user} ${one.peer} ${one.protocol}`.toLowerCase().includes(words)).slice(0, 300);
    show(list, found.map(row));
    list.parentElement.hidden = !found.length;
    const none = !sessions.size && !picked;
    box.classList.toggle("alone", none);
    search.closest(".search").hidden = none;
    if (none) show(detail, empty("No sessions", h("p", {}, "As soon as a client connects it appears here. The service listens at:"), addresses()));
    else if (!picked) show(detail, empty("Pick a session", h("p", {}, "Its commands and the service's status lines appear here, while they are said.")));
    fillFacts();
  }

  function fillFacts() {
    const one = sessions.get(picked);
    if (!picked) return;
    const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
    show(facts, h("a", { class: "back", href: "#/sessions" }, "‹ All sessions"), h("div", { class: "head" }, h("h2", { "data-focus": "", tabindex: "-1", id: "session-title" }, `Session ${picked}`)),
      one ? h("dl", { class: "facts" }, fact("protocol", one.protocol), fact("client", one.peer), fact("user", one.user || "–"), fact("TLS", one.tls || "none"),
        fact("since", day(one.began), " ", moment(one.began)), one.ended !== null && fact("ended", moment(one.ended)), fact("state", one.state),
        fact("commands", one.commands.toLocaleString("en")), fact("heard", octets(one.octets_in)), fact("said", octets(one.octets_out)))
        : h("p", { class: "soft" }, "This session is not known, or not any more."));
  }

  if (picked) put(detail, facts, transcript.element);
  fill();
  show(place, box);
  live.send({ look: picked });

  let due = 0;
  return { news(news) {
    if (news.lines?.session === picked) {
      const { left_out: left, lines } = news.lines;
      if (left) transcript.add([{ at: lines[0].at, who: "*", text: `${counted(left, "line")} before this ${left === 1 ? "is" : "are"} not kept` }]);
      transcript.add(lines.map((line) => ({ ...line, bare: true })));
    }
    due ||= window.setTimeout(() => { due = 0; if (current) fill(); }, 100);
  }, again() { transcript.list.replaceChildren(); live.send({ look: picked }); } };
}

function addresses() {
  return h("div", { class: "point" }, h("dl", {}, server.listeners.map((one) => [h("dt", {}, one.protocol), h("dd", {}, h("code", {}, one.address))])));
}

// Maildrops and listeners --------------------------------------------------------------------------

async function maildropsView() {
  const body = h("tbody", {});
  const more = h("button", { type: "button", class: "small", click: () => load(body.lastElementChild?.dataset.key ?? "") }, "Show more");
  const foot = h("div", { class: "in" }, more);
  const sheet = h("div", { class: "sheet" });
  async function load(after) {
    const found = await call("GET", `/maildrops?after=${encodeURIComponent(after)}`);
    put(body, found.maildrops.map((one) => h("tr", { "data-key": one.name }, h("th", { scope: "row", "data-name": "Maildrop" }, one.name),
      h("td", { class: "number", "data-name": "Messages" }, one.messages.toLocaleString("en")), h("td", { class: "number", "data-name": "Size" }, octets(one.octets)),
      h("td", { "data-name": "Newest" }, one.newest === null ? "–" : h("span", {}, day(one.newest), " ", moment(one.newest))))));
    foot.hidden = !found.more;
    announce(`${counted(body.children.length, "maildrop")} shown.`);
  }
  await load("");
  show(sheet, body.children.length ? [h("div", { class: "table-box" }, h("table", { class: "stacked" }, h("caption", { class: "unseen" }, "Maildrops"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Maildrop"), h("th", { scope: "col", class: "number" }, "Messages"),
      h("th", { scope: "col", class: "number" }, "Size"), h("th", { scope: "col" }, "Newest"))), body)), foot]
    : empty("No maildrops", h("p", {}, "An account's maildrop appears with its first message.")));
  show(place, h("div", { class: "head" }, h("h1", {}, "Maildrops"), h("button", { type: "button", class: "small", id: "again", click: () => go({ moved: false }) }, "Read again")), sheet);
  return {};
}

function listenersView() {
  show(place, h("div", { class: "head" }, h("h1", {}, "Listeners")), h("div", { class: "sheet" }, h("div", { class: "table-box" }, h("table", {},
    h("caption", { class: "unseen" }, "Listeners"), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Protocol"), h("th", { scope: "col" }, "Address"),
      h("th", { scope: "col", class: "number" }, "Open sessions"))),
    h("tbody", {}, server.listeners.map((one) => h("tr", {}, h("th", { scope: "row" }, one.protocol), h("td", {}, h("code", {}, one.address)),
      h("td", { class: "number" }, one.protocol === "console" ? "–"
        : [...sessions.values()].filter((other) => other.ended === null && other.protocol === one.protocol).length))))))),
  h("p", { class: "hint below" }, `mailgate ${server.version} on ${server.hostname}. Of listeners with the same protocol the sessions are counted together.`));
  return { news: () => { if (shownAs.startsWith("#/listeners")) listenersView(); } };
}

// Which view, and who may see it -------------------------------------------------------------------

const VIEWS = { sessions: sessionsView, maildrops: maildropsView, listeners: listenersView };

async function go({ moved = true } = {}) {
  if (!signedIn) return;
  const parts = partsOf(window.location.hash);
  const [name, ...rest] = VIEWS[parts[0]] ? parts : ["sessions"];
  for (const link of document.querySelectorAll("[data-section]")) {
    if (link.dataset.section === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const wanted = shownAs = window.location.hash;
  try {
    const view = await VIEWS[name](rest);
    if (shownAs !== wanted) return;
    current = view;
  } catch (fault) {
    if (!(fault instanceof Refused)) throw fault;
    if (fault.status === 401) return;
    current = null;
    show(place, h("h1", {}, "That cannot be shown"), failure(fault, () => go()));
  }
  const heading = place.querySelector("[data-focus]") ?? place.querySelector("h1");
  document.title = `${heading.textContent.trim()} – mailgate ${server.hostname}`;
  if (!moved) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function signOut(words = "") {
  signedIn = false;
  current = null;
  live.stop();
  showLink("connecting");
  document.querySelector(".link-words").textContent = "Signed out";
  askForToken(place, { path: SESSION, what: "this service", words, done: begin, hint: [
    "It stands in the file that the service's log names: ", h("code", {}, "console.token"),
    " in the folder of its database, if nothing else was configured."] });
}

const live = new Live("/live", {
  onMessage: (news) => {
    for (const one of news.sessions) {
      const before = sessions.get(one.number);
      sessions.set(one.number, one);
      if (before && before.ended === null && one.ended !== null) announce(`Session ${one.number} has ended.`);
    }
    forget();
    const open = [...sessions.values()].filter((one) => one.ended === null).length;
    const badge = document.getElementById("count-sessions");
    badge.hidden = !open;
    badge.textContent = open;
    current?.news?.(news);
  },
  onState: (how) => {
    showLink(how);
    if (how === "live") { sessions.clear(); current?.again?.(); }
  },
  beforeTry: async () => { server = await call("GET", "/state"); },
});

async function begin() {
  try {
    await signInByAddress(SESSION);
    server = await call("GET", "/state");
    document.getElementById("host").textContent = server.hostname;
    signedIn = true;
    await go();
    live.start();
  } catch (fault) {
    if (fault.status === 401) signOut();
    else {
      showLink("lost");
      show(place, failure(fault, begin));
    }
  }
}

window.addEventListener("hashchange", () => { if (/^#token=/.test(window.location.hash)) begin(); else go(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
whenSignedOut(() => { if (signedIn) signOut("This browser is not signed in any more."); });
show(place, empty("Loading …"));
begin();
