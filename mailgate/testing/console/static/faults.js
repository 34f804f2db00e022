// Faults: what is switched on, and a form for another one, made of the table of kinds.

import { call } from "./api.js";
import { announce, empty, failure, field, h, show } from "./dom.js";
import { API, state } from "./state.js";

const VERBS = ["USER", "PASS", "APOP", "AUTH", "STLS", "CAPA", "STAT", "LIST", "UIDL", "RETR", "TOP", "DELE", "NOOP", "RSET",
  "LAST", "QUIT", "greeting", "tls"];

export async function faultsView(place) {
  const { kinds } = await call("GET", `${API}/kinds`);
  const table = h("div", { class: "sheet" });
  const fill = () => show(table, state.faults.length ? listed(kinds) : empty("Nothing goes wrong",
    h("p", {}, "The server does what it should. Switch a fault on, or a whole ", h("a", { href: "#/scenarios" }, "scenario"), ".")));
  fill();
  show(place, h("div", { class: "head" }, h("h1", {}, "Faults")),
    h("div", { class: "split wide" }, table, form(kinds)));
  return { news: (notice) => { if (notice.type === "changed") fill(); } };
}

function listed(kinds) {
  return [h("div", { class: "table-box" }, h("table", { class: "stacked" }, h("caption", {}, "Switched on"),
    h("thead", {}, h("tr", {}, ["Fault", "When", "Settings", "Acted", ""].map((one) => h("th", { scope: "col",
      class: one === "Acted" ? "number" : null }, one || h("span", { class: "unseen" }, "Switch off"))))),
    h("tbody", {}, state.faults.map((one) => h("tr", {}, h("th", { scope: "row", "data-name": "Fault" }, h("span", {}, one.label,
      one.label !== one.do && h("span", { class: "soft" }, ` (${one.do})`))),
    h("td", { "data-name": "When" }, when(one)), h("td", { "data-name": "Settings" }, told(one, kinds)),
    h("td", { class: "number", "data-name": "Acted" }, one.acted.toLocaleString("en")),
    h("td", {}, h("button", { type: "button", class: "small", id: `off-${one.id}`, click: () => off(one) }, "Switch off",
      h("span", { class: "unseen" }, ` ${one.label}`)))))))),
  h("div", { class: "in row" }, h("button", { type: "button", class: "small lost", id: "all-off", click: allOff }, "Switch all off"))];
}

function when(fault) {
  const parts = [fault.command || "any command"];
  if (fault.session.length) parts.push(`session ${fault.session.join(", ")}`);
  if (fault.occurrence.length) parts.push(`occurrence ${fault.occurrence.join(", ")}`);
  if (fault.user) parts.push(`user ${fault.user}`);
  if (fault.protocol) parts.push(fault.protocol);
  if (fault.probability < 1) parts.push(`${Math.round(fault.probability * 1000) / 10} % of the time`);
  if (fault.times) parts.push(`${fault.times} times at most`);
  return parts.join(" · ");
}

/** What a kind is told, where it is not the usual. */
function told(fault, kinds) {
  const usual = Object.fromEntries((kinds.find((one) => one.name === fault.do)?.settings ?? []).map((one) => [one.name, one.default]));
  const rows = Object.entries(fault.settings).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(usual[name]));
  return rows.length ? h("code", {}, rows.map(([name, value]) => `${name} = ${JSON.stringify(value)}`).join("\n")) : "–";
}

async function off(fault) {
  await call("DELETE", `${API}/faults/${fault.id}`).catch(() => {});
  announce(`${fault.label} is switched off.`);
}

async function allOff() {
  await call("DELETE", `${API}/faults`).catch(() => {});
  announce("All faults are switched off.");
}

// The form -----------------------------------------------------------------------------------------

function form(kinds) {
  const kind = h("select", { id: "fault-do" }, kinds.map((one) => h("option", { value: one.name }, one.name)));
  const words = h("p", { class: "hint", id: "fault-told" });
  kind.setAttribute("aria-describedby", "fault-told");
  const settings = h("fieldset", {});
  const outcome = h("div", { role: "status" });
  const inputs = {
    command: h("input", { id: "fault-command", list: "fault-verbs", autocomplete: "off", spellcheck: "false" }),
    session: h("input", { id: "fault-session", inputmode: "numeric", pattern: "[0-9]+(\\s*,\\s*[0-9]+)*", autocomplete: "off" }),
    occurrence: h("input", { id: "fault-occurrence", inputmode: "numeric", pattern: "[0-9]+(\\s*,\\s*[0-9]+)*", autocomplete: "off" }),
    user: h("input", { id: "fault-user", autocomplete: "off" }),
    protocol: h("select", { id: "fault-protocol" }, h("option", { value: "" }, "any"),
      Object.keys(state.server.ports).map((one) => h("option", {}, one))),
    probability: h("input", { id: "fault-probability", type: "number", min: "0", max: "1", step: "any", placeholder: "1" }),
    times: h("input", { id: "fault-times", type: "number", min: "1", step: "1" }),
    name: h("input", { id: "fault-name", autocomplete: "off" }),
  };
  let read = () => ({});
  const choose = () => {
    const one = kinds.find((other) => other.name === kind.value);
    words.textContent = one.told.replaceAll("`", "") + (one.commands.length ? ` Meets ${one.commands.join(", ")}.` : "");
    read = settingFields(settings, one);
  };
  kind.addEventListener("change", choose);
  choose();
  return h("form", { class: "sheet in stack", "aria-labelledby": "fault-title", submit: async (event) => {
    event.preventDefault();
    try {
      const made = await call("POST", `${API}/faults`, { json: { do: kind.value, ...read(), ...conditions(inputs) } });
      show(outcome, h("p", {}, h("span", { class: "badge good" }, "on"), ` ${made.label}`));
      announce(`${made.label} is switched on.`);
    } catch (fault) { show(outcome, failure(fault)); }
  } }, h("h2", { id: "fault-title" }, "Switch a fault on"), h("div", { class: "stack" }, field("Kind", kind), words), settings,
  h("fieldset", {}, h("legend", {}, "When (what is left empty is left open)"), h("div", { class: "fields" },
    field("Command", inputs.command, "RETR, RETR 2, greeting, tls"),
    h("datalist", { id: "fault-verbs" }, VERBS.map((one) => h("option", { value: one }))),
    field("Session", inputs.session, "2, or 1, 3"), field("Occurrence", inputs.occurrence, "The how-maniest, in a session"),
    field("Probability", inputs.probability, "0 to 1"), field("Times at most", inputs.times), field("User", inputs.user),
    field("Protocol", inputs.protocol), field("Shown as", inputs.name))),
  h("div", { class: "row" }, h("button", { class: "strong" }, "Switch on")), outcome);
}

function conditions(inputs) {
  const found = {};
  for (const [name, input] of Object.entries(inputs)) {
    const value = input.value.trim();
    if (!value) continue;
    if (name === "session" || name === "occurrence") found[name] = value.split(",").map(Number);
    else found[name] = ["probability", "times"].includes(name) ? Number(value) : value;
  }
  return found;
}

/** Fill a fieldset with the settings of a kind; return what reads them. */
function settingFields(place, kind) {
  const inputs = kind.settings.map((one) => {
    const id = `setting-${one.name}`;
    const { default: value } = one;
    const usual = value === null || value === "" || typeof value === "object" ? "" : String(value);
    if (typeof value === "boolean") return [one, h("input", { id, type: "checkbox", checked: value })];
    if (typeof value === "number") return [one, h("input", { id, type: "number", step: "any", min: "0", placeholder: usual })];
    return [one, h("input", { id, autocomplete: "off", spellcheck: "false", required: one.required, placeholder: usual })];
  });
  place.hidden = !inputs.length;
  show(place, h("legend", {}, `Settings of ${kind.name}`), h("div", { class: "fields" }, inputs.map(([one, input]) => field(
    one.name.replaceAll("_", " "), input, one.required ? "needed" : typeof one.default === "string" && one.default === ""
      ? "" : Array.isArray(one.default) ? `a list, as ${JSON.stringify(one.default)}` : ""))));
  return () => {
    const found = {};
    for (const [one, input] of inputs) {
      if (input.type === "checkbox") { if (input.checked !== one.default) found[one.name] = input.checked; }
      else if (input.value !== "") found[one.name] = valueOf(input, one);
    }
    return found;
  };
}

/** Text as it is, where a text is usual; else whatever JSON it is: 12, [1, 2], {"hex": "ff"}. */
function valueOf(input, { default: usual }) {
  if (input.type === "number") return Number(input.value);
  if (typeof usual === "string" && !/^\s*\{/.test(input.value)) return input.value;
  try { return JSON.parse(input.value); } catch { return input.value; }
}
