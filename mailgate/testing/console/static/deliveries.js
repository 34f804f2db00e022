// Connections that brought mail, and what was said on the one that was picked.

import { call } from "./api.js";
import { counted, empty, h, moment, show } from "./dom.js";
import { API, MOST_EVENTS, piece, state } from "./state.js";
import { Transcript } from "./transcript.js";

function row(one, picked) {
  const end = one.open ? h("span", { class: "badge good" }, "open")
    : h("span", { class: one.end === "QUIT" ? "badge" : "badge bad" }, one.end);
  return h("li", {}, h("a", { href: `#/deliveries/${one.number}`, "aria-current": one.number === picked ? "true" : null },
    h("div", { class: "first" }, h("span", {}, `#${one.number} ${one.protocol}${one.tls ? " in TLS" : ""}`),
      h("span", { class: "badges" }, end)),
    h("div", { class: "soft" }, `${one.peer} · `, moment(one.began), ` · ${counted(one.commands.length, "command")}`)));
}

function nothing() {
  const { host, ports } = state.server;
  const doors = ["smtp", "lmtp"].filter((name) => ports[name]);
  return empty("No deliveries yet", h("p", {}, doors.length ? "Send mail to:" : "Neither SMTP nor LMTP is served here."),
    h("dl", {}, doors.map((name) => [h("dt", {}, name), h("dd", {}, h("code", {}, `${host}:${ports[name]}`))])));
}

export async function deliveriesView(place, [wanted], { still }) {
  const picked = wanted ? Number(wanted) : null;
  const list = h("ul", { class: "rows" });
  const detail = h("section", { class: "detail sheet", "aria-label": "Delivery" });
  let latest = 0;

  async function fill() {
    if (!still()) return;
    const turn = latest += 1;
    const all = [...state.deliveries].reverse();
    show(list, all.map((one) => row(one, picked)));
    const one = all.find((each) => each.number === picked);
    if (!one) {
      show(detail, all.length ? empty("Pick a delivery", h("p", {}, "What was said on it appears here.")) : nothing());
      return;
    }
    const after = Math.max(0, one.events - MOST_EVENTS);
    const { events } = await call("GET", `${API}/deliveries/${picked}/events?after=${after}&limit=${MOST_EVENTS}`);
    if (turn !== latest) return;        // there was news meanwhile, and it is shown
    const transcript = new Transcript("What is said");
    transcript.add(events.map(piece));
    show(detail, h("div", { class: "in" }, h("a", { class: "back", href: "#/deliveries" }, "‹ All deliveries"),
      h("div", { class: "head" }, h("h2", { "data-focus": "", tabindex: "-1" }, `Delivery ${picked}`),
        h("a", { class: "button small", href: `${API}/deliveries/${picked}/transcript`, target: "_blank", rel: "noopener" },
          "As text"))), transcript.element);
  }

  await state.loadDeliveries();
  await fill();
  if (!still()) return null;
  show(place, h("div", { class: `split${picked ? " has-detail" : ""}` },
    h("section", { class: "overview", "aria-label": "All deliveries" }, h("div", { class: "head" }, h("h1", {}, "Deliveries")),
      h("div", { class: "sheet scroll" }, list)), detail));
  return { again: true, news: (notice) => notice.type === "changed" && notice.what === "deliveries" && fill() };
}
