// Sessions, and what is said on the one that was picked.

import { call } from "./api.js";
import { counted, day, empty, h, moment, octets, put, show } from "./dom.js";
import { API, piece, state } from "./state.js";
import { Transcript } from "./transcript.js";

const link = (number) => `#/sessions/${number}`;

function fate(session) {
  const badges = [];
  if (session.faults?.length) badges.push(h("span", { class: "badge warn" }, session.faults.join(", ")));
  if (session.open) badges.push(h("span", { class: "badge good" }, "open"));
  else badges.push(h("span", { class: session.end === "QUIT" ? "badge" : "badge bad" }, session.end || "ended"));
  return h("span", { class: "badges" }, badges);
}

function row(session, picked) {
  return h("li", {}, h("a", { href: link(session.number), id: `session-${session.number}`,
    "aria-current": session.number === picked ? "true" : null },
  h("div", { class: "first" }, h("span", {}, `#${session.number} `, session.user ?? h("span", { class: "soft" }, session.open ? "not logged in yet" : "no login")),
    fate(session)),
  h("div", { class: "soft" }, `${session.protocol}${session.tls ? " in TLS" : ""} · `, moment(session.began),
    ` · ${counted(session.commands.length, "command")}`)));
}

/** Where to point a client at, for who has not yet. */
export function pointers() {
  const { server } = state;
  const names = Object.keys(server.ports);
  const accounts = state.accounts.map((one) => one.name);
  return h("div", { class: "point" }, h("dl", {},
    names.map((name) => [h("dt", {}, name), h("dd", {}, h("code", {}, `${server.host}:${server.ports[name]}`))]),
    server.ca_file && [h("dt", {}, "CA to trust"), h("dd", {}, h("code", {}, server.ca_file))],
    [h("dt", {}, "accounts"), h("dd", {}, accounts.length ? accounts.join(", ")
      : ["none yet: ", h("a", { href: "#/accounts" }, "add one")])],
    server.ports.pop3 && [h("dt", {}, "try"), h("dd", {}, h("code", {},
      `curl -v pop3://${accounts[0] ?? "NAME"}:PASSWORD@${server.host}:${server.ports.pop3}/`))]));
}

export async function sessionsView(place, [wanted], { still }) {
  const picked = wanted ? Number(wanted) : null;
  const list = h("ul", { class: "rows" });
  const detail = h("section", { class: "detail sheet", "aria-label": "Session" });
  const transcript = new Transcript("What is said");
  const facts = h("div", { class: "in" });
  let next = 0;

  function showList() {
    const newest = [...state.sessions.values()].sort((one, other) => other.number - one.number);
    show(list, newest.map((one) => row(one, picked)));
    listBox.hidden = !newest.length;
    hint.hidden = !newest.length;
    box.classList.toggle("alone", !newest.length && !picked);
    if (!newest.length && !picked) nothing();
    else if (newest.length && !picked) show(detail, empty("Pick a session",
      h("p", {}, "What is said on it appears here, line by line, while it is said.")));
  }

  function nothing() {
    show(detail, empty("No sessions yet", h("p", {}, "Point the mail client that you test at:"), pointers()));
  }

  function showFacts() {
    const session = state.sessions.get(picked);
    if (!session) return;
    const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
    show(facts, h("a", { class: "back", href: "#/sessions" }, "‹ All sessions"),
      h("div", { class: "head" }, h("h2", { "data-focus": "", tabindex: "-1" }, `Session ${session.number}`),
        h("div", { class: "row" }, fate(session), h("a", { class: "button small",
          href: `${API}/sessions/${picked}/transcript`, target: "_blank", rel: "noopener" }, "As text"))),
      h("dl", { class: "facts" }, fact("protocol", session.protocol, session.tls ? " in TLS" : ""),
        fact("client", session.peer), fact("user", session.user ?? "–"),
        fact("began", day(session.began), " ", moment(session.began)),
        session.ended && fact("ended", moment(session.ended), `, ${session.end}`),
        session.tls_details && fact("TLS", session.tls_details),
        session.retrieved?.length ? fact("fetched", counted(session.retrieved.length, "message")) : null,
        session.deleted?.length ? fact("removed", counted(session.deleted.length, "message")) : null,
        session.octets_left_out ? fact("left out", octets(session.octets_left_out)) : null));
  }

  const hint = h("p", { class: "hint below" }, "The newest comes first. ", h("a", { href: "#/compose" }, "Put a message in"),
    " for the next one.");
  const listBox = h("div", { class: "sheet scroll" }, list);
  const box = h("div", { class: `split${picked ? " has-detail" : ""}${state.sessions.size || picked ? "" : " alone"}` },
    h("section", { class: "overview", "aria-label": "All sessions" }, h("div", { class: "head" }, h("h1", {}, "Sessions")),
      listBox, hint),
    detail);

  if (picked) {
    const { pieces, next: first, left } = await state.events(picked);
    if (!still()) return null;
    next = first;
    put(detail, facts, left ? h("p", { class: "in hint" }, `The first ${left.toLocaleString("en")} events are left out here.`) : null,
      transcript.element);
    showFacts();
    transcript.add(pieces.map(piece));
  }
  showList();
  show(place, box);
  transcript.follow();

  let due = 0;
  const refresh = () => { due ||= window.setTimeout(() => { due = 0; showList(); showFacts(); }, 100); };

  return {
    again: true,
    news(notice) {
      if (notice.type === "event") {
        if (notice.session === picked && notice.index >= next) {
          next = notice.index + 1;
          transcript.add([piece(notice.event)]);
        }
        summaries.add(notice.session);
        summarize();
        return;
      }
      refresh();
    },
  };

  function summarize() {
    if (summarizing) return;
    summarizing = true;
    window.setTimeout(async () => {     // what an event tells of its session is asked for, a few times a second
      const numbers = [...summaries].slice(-5);
      summaries.clear();
      try {
        for (const number of numbers) state.sessions.set(number, await call("GET", `${API}/sessions/${number}`));
      } catch { /* it is forgotten, or the connection is gone: both are told elsewhere */ }
      summarizing = false;
      refresh();
    }, 250);
  }
}

const summaries = new Set();
let summarizing = false;
