// Putting messages in: written here, or dropped as files.

import { call } from "./api.js";
import { announce, counted, failure, field, h, octets, put, show } from "./dom.js";
import { API, state } from "./state.js";

const MOST_OCTETS = 32 * 1024 * 1024;

export async function composeView(place, [wanted]) {
  const names = () => [...new Set([wanted, ...state.maildrops.map((one) => one.name)].filter(Boolean))];
  const drop = h("input", { id: "compose-maildrop", list: "maildrop-names", required: true, autocomplete: "off",
    value: wanted ?? usual() });
  const known = h("datalist", { id: "maildrop-names" });
  const fill = () => show(known, names().map((one) => h("option", { value: one })));
  fill();
  const samples = (await call("GET", `${API}/samples`).catch(() => ({ samples: [] }))).samples;

  show(place, h("h1", {}, "Compose"), h("p", { class: "lead" }, "What is put in is what a client fetches: octet by octet, without ",
    h("code", {}, "Received"), " lines of the harness's own."),
  h("div", { class: "sheet in", id: "compose-to" }, h("div", { class: "fields" }, field("Maildrop", drop, "One that is not there yet is made."), known)),
  h("div", { class: "split wide", id: "compose-ways" }, writing(drop), h("div", {}, dropping(drop), sampling(drop, samples))));
  return { news: (notice) => { if (notice.type === "changed") fill(); } };
}

/** The maildrop that is meant most likely: an account's, the one that holds most. */
function usual() {
  const hosts = new Set(state.accounts.filter((one) => one.sdps).map((one) => one.name));
  const [first] = [...state.maildrops].sort((one, other) => hosts.has(one.name) - hosts.has(other.name) || other.messages - one.messages);
  return first?.name ?? "";
}

function nameOf(drop) {
  if (drop.reportValidity()) return drop.value.trim();
  drop.focus();
  return "";
}

const address = (name) => `${API}/maildrops/${encodeURIComponent(name)}`;

// Written ------------------------------------------------------------------------------------------

function writing(drop) {
  const from = h("input", { id: "compose-from", value: "Author <author@example.org>", autocomplete: "off" });
  const to = h("input", { id: "compose-to-field", autocomplete: "off", placeholder: "the maildrop's address" });
  const subject = h("input", { id: "compose-subject", autocomplete: "off" });
  const text = h("textarea", { id: "compose-text" });
  const markup = h("textarea", { id: "compose-html", rows: "4" });
  const more = h("textarea", { id: "compose-more", rows: "3", spellcheck: "false" });
  const outcome = h("div", { class: "outcomes", role: "status" });
  return h("form", { class: "sheet in stack", "aria-labelledby": "compose-written", submit: async (event) => {
    event.preventDefault();
    const name = nameOf(drop);
    if (!name) return;
    try {
      const made = written({ from: from.value, to: to.value || `${name}@${state.server.hostname}`, subject: subject.value,
        text: text.value, markup: markup.value, more: more.value });
      const one = await call("POST", `${address(name)}/messages`, { body: new TextEncoder().encode(made), type: "message/rfc822" });
      show(outcome, h("p", {}, h("span", { class: "badge good" }, "put in"), ` message ${one.number} of ${name}, ${octets(one.octets)}: `,
        h("a", { href: `#/mail/${encodeURIComponent(name)}/${encodeURIComponent(one.unique_id)}` }, "show it")));
    } catch (fault) { show(outcome, failure(fault)); }
  } }, h("h2", { id: "compose-written" }, "Write a message"),
  h("div", { class: "fields" }, field("From", from), field("To", to)), field("Subject", subject), field("Text", text),
  h("details", {}, h("summary", {}, "HTML and further header fields"), h("div", { class: "stack details-in" },
    field("HTML", markup, "With it the message has two parts, one of them the text."),
    field("Further header fields", more, "One a line, as X-Test: value. They are put in as they stand."))),
  h("div", { class: "row" }, h("button", { class: "strong" }, "Put it in")), outcome);
}

const base64 = (text) => window.btoa(String.fromCharCode(...new TextEncoder().encode(text)));

/** Encode text that is not all ASCII for a header field (RFC 2047 section 2: a word has 75 characters at most). */
function word(value) {
  if (/^[\x20-\x7e]*$/.test(value)) return value;
  return (value.match(/.{1,11}/gu) ?? []).map((one) => `=?utf-8?B?${base64(one)}?=`).join("\r\n ");
}

/** The same for a mailbox: what stands before the address alone. */
function mailbox(value) {
  const [, name, address] = /^(.*?)\s*(<[^<>]*>)$/.exec(value) ?? [];
  return address ? `${word(name)} ${address}`.trim() : value;
}

const lines = (value) => value.replace(/\r\n?|\n/g, "\r\n").replace(/(?:\r\n)*$/, "\r\n");
const part = (type, text) => `Content-Type: ${type}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n${lines(text)}`;

/** Return a message as text. */
export function written({ from, to, subject, text, markup = "", more = "", at = new Date() }) {
  const id = `${at.getTime().toString(36)}.${Math.random().toString(36).slice(2)}@console.invalid`;
  const one = (value) => value.replace(/[\r\n]+/g, " ");
  const head = [`From: ${mailbox(one(from))}`, `To: ${mailbox(one(to))}`, `Subject: ${word(one(subject))}`, `Date: ${at.toUTCString().replace("GMT", "+0000")}`,
    `Message-ID: <${id}>`, "MIME-Version: 1.0", ...more.split(/\r?\n/).filter((line) => line.trim())].join("\r\n");
  if (!markup.trim()) return `${head}\r\n${part("text/plain", text)}`;
  const edge = `=_${Math.random().toString(36).slice(2)}`;
  return `${head}\r\nContent-Type: multipart/alternative; boundary="${edge}"\r\n\r\n--${edge}\r\n${part("text/plain", text)}`
    + `--${edge}\r\n${part("text/html", markup)}--${edge}--\r\n`;
}

// Dropped ------------------------------------------------------------------------------------------

function dropping(drop) {
  const outcomes = h("ul", { class: "outcomes", role: "status" });
  const files = h("input", { id: "compose-files", type: "file", multiple: true, accept: ".eml,.mbox,.txt,message/rfc822", class: "unseen",
    change: async () => { await take(drop, [...files.files], outcomes); files.value = ""; } });
  const area = h("div", { class: "drop", dragover: (event) => { event.preventDefault(); area.classList.add("over"); },
    dragleave: () => area.classList.remove("over"), drop: (event) => {
      event.preventDefault();
      area.classList.remove("over");
      take(drop, [...event.dataTransfer.files], outcomes);
    } }, h("p", {}, "Drop ", h("code", {}, ".eml"), " or ", h("code", {}, ".mbox"), " files here"),
  h("button", { type: "button", click: () => files.click() }, "Choose files"),
  h("label", { class: "unseen", for: "compose-files" }, "Files"), files);
  files.tabIndex = -1;
  return h("section", { class: "sheet in stack", "aria-labelledby": "compose-dropped" }, h("h2", { id: "compose-dropped" }, "Files"),
    area, outcomes);
}

async function take(drop, files, outcomes) {
  const name = nameOf(drop);
  if (!name) return;
  for (const file of files) {
    const told = h("li", {}, `${file.name}: …`);
    outcomes.prepend(told);
    try {
      if (file.size > MOST_OCTETS) throw new Error(`more than ${octets(MOST_OCTETS)}`);
      const messages = messagesIn(new Uint8Array(await file.arrayBuffer()));
      for (const one of messages) await call("POST", `${address(name)}/messages`, { body: one, type: "message/rfc822" });
      show(told, h("span", { class: "badge good" }, "put in"), ` ${file.name}: ${counted(messages.length, "message")}`);
    } catch (fault) { show(told, h("span", { class: "badge bad" }, "refused"), ` ${file.name}: ${fault.message}`); }
  }
  announce(`${counted(files.length, "file")} done.`);
}

/** Return the messages of a file: all of an mbox, or the one. */
export function messagesIn(bytes) {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 5));
  if (text !== "From ") return [bytes];
  const whole = Array.from({ length: Math.ceil(bytes.length / 65536) }, (_, index) =>
    String.fromCharCode(...bytes.subarray(index * 65536, (index + 1) * 65536))).join("");
  return whole.split(/(?:^|\r?\n)(?=From .*\d{4}\r?\n)/).filter((one) => one.startsWith("From ")).map((one) =>
    Uint8Array.from(one.replace(/^From .*\r?\n/, "").replace(/^>(>*From )/gm, "$1"), (character) => character.charCodeAt(0)));
}

// Samples ------------------------------------------------------------------------------------------

function sampling(drop, samples) {
  if (!samples.length) return null;
  const which = h("select", { id: "compose-sample" }, samples.map((one) => h("option", { value: one.name }, one.name)));
  const told = h("p", { class: "hint", id: "compose-sample-told" });
  const tell = () => { told.textContent = samples.find((one) => one.name === which.value)?.told ?? ""; };
  which.addEventListener("change", tell);
  which.setAttribute("aria-describedby", "compose-sample-told");
  tell();
  const times = h("input", { id: "compose-times", type: "number", min: "1", max: "10000", value: "1", required: true });
  const outcome = h("div", { class: "outcomes", role: "status" });
  const form = h("form", { class: "sheet in stack", "aria-labelledby": "compose-samples", submit: async (event) => {
    event.preventDefault();
    const name = nameOf(drop);
    if (!name) return;
    const sample = times.value === "1" ? which.value : `${which.value} x ${times.value}`;
    try {
      const added = await call("POST", `${address(name)}/samples`, { json: { sample } });
      show(outcome, h("p", {}, h("span", { class: "badge good" }, "put in"), ` ${counted(added.messages.length, "message")} of ${which.value}`));
    } catch (fault) { show(outcome, failure(fault)); }
  } }, h("h2", { id: "compose-samples" }, "Samples that clients stumble over"));
  return put(form, h("div", { class: "fields" }, field("Sample", which), field("How many", times)), told,
    h("div", { class: "row" }, h("button", {}, "Put them in")), outcome);
}
