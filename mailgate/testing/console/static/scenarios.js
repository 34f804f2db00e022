// The library of scenarios: what each does, which bug of a client it finds, and a switch.

import { call } from "./api.js";
import { announce, counted, empty, failure, field, h, show } from "./dom.js";
import { API, state } from "./state.js";

export async function scenariosView(place) {
  const { scenarios } = await call("GET", `${API}/scenarios`);
  const cards = h("ul", { class: "cards" });
  const outcome = h("div", { role: "status" });
  const number = h("p", { class: "soft", role: "status" });
  const search = h("input", { id: "scenario-search", type: "search", autocomplete: "off", input: () => fill() });

  async function use(name) {
    try {
      await call("PUT", `${API}/scenario`, { json: { name } });
      await state.loadTrouble();
      show(outcome, wishes(name));
      announce(`The scenario ${name} is on.`);
    } catch (fault) { show(outcome, failure(fault)); outcome.scrollIntoView({ block: "nearest" }); }
    fill();
  }

  /** A scenario's messages, and into which maildrop they are wanted. */
  function wishes(name) {
    const wanted = scenarios.find((one) => one.name === name).messages;
    if (!wanted.length || !state.maildrops.length) return null;
    const drop = h("select", { id: "scenario-drop" }, state.maildrops.map((one) => h("option", {}, one.name)));
    const form = h("form", { class: "sheet in row wishes", submit: async (event) => {
      event.preventDefault();
      try {
        for (const sample of wanted) {
          await call("POST", `${API}/maildrops/${encodeURIComponent(drop.value)}/samples`, { json: { sample } });
        }
        show(form, h("p", {}, h("span", { class: "badge good" }, "put in"), ` ${wanted.join(", ")} into ${drop.value}`));
      } catch (fault) { show(form, failure(fault)); }
    } }, h("p", {}, h("strong", {}, name), ` is on. It wants these messages: ${wanted.join(", ")}.`),
    h("label", { for: "scenario-drop" }, "Put them into"), drop, h("button", {}, "Put in"));
    return form;
  }

  async function stop() {
    await call("DELETE", `${API}/scenario`).catch(() => {});
    await state.loadTrouble().catch(() => {});
    announce("The scenario is off, and all faults are.");
    show(outcome);
    fill();
  }

  function card(one) {
    const on = state.scenario?.name === one.name;
    const row = (title, words) => words ? [h("dt", {}, title), h("dd", {}, words)] : null;
    return h("li", { class: `sheet card${on ? " on" : ""}` }, h("h2", {}, one.name, on && h("span", { class: "badge lead" }, "on")),
      h("p", {}, one.description), h("dl", {}, row("Finds", one.finds), row("A client should", one.right),
        row("Messages it wants", one.messages.join(", "))),
      one.sources.length ? h("details", {}, h("summary", {}, "Sources"), h("ul", {}, one.sources.map((source) => h("li", {}, h("code", {}, source))))) : null,
      h("div", { class: "row" }, on
        ? h("button", { type: "button", id: `stop-${one.name}`, click: stop }, "Switch off", h("span", { class: "unseen" }, ` ${one.name}`))
        : h("button", { type: "button", id: `use-${one.name}`, class: "strong", click: () => use(one.name) }, "Use",
          h("span", { class: "unseen" }, ` ${one.name}`))));
  }

  function fill() {
    const words = search.value.trim().toLowerCase();
    const found = scenarios.filter((one) => !words || [one.name, one.description, one.finds, one.right].join(" ").toLowerCase().includes(words));
    show(cards, found.map(card));
    number.textContent = scenarios.length ? `${counted(found.length, "scenario")}${words ? " found" : ""}` : "";
  }

  fill();
  show(place, h("div", { class: "head" }, h("h1", {}, "Scenarios"), number),
    h("p", { class: "lead" }, "Faults that belong together, as real servers have them. A scenario takes the place of all faults that are on."),
    outcome, scenarios.length ? [h("div", { class: "search" }, field("Search", search)), cards]
      : h("div", { class: "sheet" }, empty("No scenarios here", h("p", {}, "Single ", h("a", { href: "#/faults" }, "faults"), " can be switched on all the same."))));
  return { news: (notice) => { if (notice.type === "changed" && notice.what === "scenario") fill(); } };
}
