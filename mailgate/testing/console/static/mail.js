// Maildrops, what lies in them, and one message at a time.

import { call } from "./api.js";
import { announce, ask, counted, empty, failure, h, moment, octets, put, show } from "./dom.js";
import { plain } from "./transcript.js";
import { pointers } from "./sessions.js";
import { API, state } from "./state.js";

const at = (...parts) => parts.map(encodeURIComponent).join("/");
const messagesOf = async (name) => (await call("GET", `/console/mail/${at(name)}`)).messages;

export async function mailView(place, [name, uniqueId], { still }) {
  if (!name) return overview(place);
  const messages = await messagesOf(name);
  const letter = uniqueId ? await call("GET", `/console/mail/${at(name, uniqueId)}`) : null;
  if (!still()) return null;
  const list = h("ul", { class: "rows" });
  const detail = h("section", { class: "sheet detail", "aria-label": "Message" });
  const heading = h("h1", {}, name);
  const count = h("p", { class: "soft" });
  const remove = h("button", { type: "button", class: "small lost", click: () => clear(name) }, "Remove all …");

  function showList(found) {
    remove.hidden = !found.length;
    count.textContent = found.length ? counted(found.length, "message") : "Empty";
    show(list, found.map((one) => h("li", {}, h("a", { id: `message-${one.unique_id}`,
      href: `#/mail/${at(name, one.unique_id)}`, "aria-current": one.unique_id === uniqueId ? "true" : null },
    h("div", { class: "first" }, h("span", {}, `${one.number}. `, one.subject ? plain(one.subject) : h("span", { class: "soft" }, "no subject")),
      h("span", { class: "soft" }, octets(one.octets))),
    h("div", { class: "soft" }, moment(one.arrived), " · ", one.from ? plain(one.from) : h("code", {}, one.unique_id))))));
    box.hidden = !found.length;
    if (!uniqueId) {
      show(detail, found.length
        ? empty("Pick a message", h("p", {}, "It is shown as text, as harmless HTML, by its header, or as it is."))
        : empty("Nothing in this maildrop", h("p", {}, h("a", { href: `#/compose/${at(name)}` }, "Write a message or drop some files"),
          ", or have mail delivered to it.")));
    }
  }

  const box = h("div", { class: "sheet scroll" }, list);
  show(place, h("div", { class: `split${uniqueId ? " has-detail" : ""}` },
    h("section", { class: "overview", "aria-label": "Messages" }, h("p", {}, h("a", { href: "#/mail" }, "‹ All maildrops")),
      h("div", { class: "head" }, heading, count), box,
      h("p", { class: "row", id: "mail-deeds" }, h("a", { class: "button small", href: `#/compose/${at(name)}` }, "Put mail in"), remove)),
    detail));
  showList(messages);
  if (letter) showLetter(detail, name, uniqueId, letter);

  return {
    news: async (notice) => {
      if (notice.type !== "changed" || notice.what !== "maildrops") return;
      try {
        const found = await messagesOf(name);
        if (still()) showList(found);
      } catch { /* told by the connection's state */ }
    },
  };
}

async function clear(name) {
  if (!await ask("Remove all messages?", `All that lies in ${name} goes, also from under a session.`, "Remove")) return;
  await call("DELETE", `${API}/maildrops/${at(name)}/messages`);
  announce("All messages were removed.");
  window.location.hash = `#/mail/${at(name)}`;
}

function overview(place) {
  const body = h("div", { class: "sheet" });
  function fill() {
    const { maildrops } = state;
    show(body, maildrops.length ? h("div", { class: "table-box" }, h("table", {}, h("caption", { class: "unseen" }, "Maildrops"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Maildrop"), h("th", { scope: "col", class: "number" }, "Messages"),
        h("th", { scope: "col", class: "number" }, "Size"))),
      h("tbody", {}, maildrops.map((one) => h("tr", {}, h("th", { scope: "row" }, h("a", { id: `drop-${one.name}`, href: `#/mail/${at(one.name)}` }, one.name)),
        h("td", { class: "number" }, one.messages.toLocaleString("en")), h("td", { class: "number" }, octets(one.octets)))))))
      : empty("No maildrops yet", h("p", {}, "A maildrop comes with its account, or with the first message for it. ",
        h("a", { href: "#/accounts" }, "Add an account"), " to begin with."), pointers()));
  }
  fill();
  show(place, h("div", { class: "head" }, h("h1", {}, "Mail"), h("a", { class: "button small", href: "#/compose" }, "Put mail in")), body);
  return { news: (notice) => { if (notice.type === "changed") fill(); } };
}

// One message --------------------------------------------------------------------------------------

function showLetter(detail, name, uniqueId, letter) {
  const address = `/console/mail/${at(name, uniqueId)}`;
  const tabs = [];
  if (letter.html) tabs.push(["HTML", () => htmlPanel(address, letter)]);
  tabs.push(["Text", () => h("div", { class: "in" }, letter.text === null
    ? h("p", { class: "soft" }, "There is no text part.") : h("div", { class: "body-text" }, letter.text), cut(letter.text_cut))]);
  tabs.push(["Headers", () => headers(letter)]);
  tabs.push(["Source", () => h("div", {}, h("pre", { class: "source in", tabindex: "0" }, letter.source), cut(letter.source_cut))]);
  if (letter.attachments.length) tabs.push([`Attachments (${letter.attachments.length})`, () => attachments(address, letter)]);

  show(detail, h("div", { class: "in" },
    h("a", { class: "back", href: `#/mail/${at(name)}` }, "‹ ", name),
    h("div", { class: "head" }, h("h2", { "data-focus": "", tabindex: "-1" }, letter.subject || "(no subject)"),
      h("div", { class: "row" }, h("a", { class: "button small", href: `${address}/source`, download: "" }, "Save"),
        h("button", { type: "button", class: "small lost", click: () => removeOne(detail, name, uniqueId) }, "Remove"))),
    h("dl", { class: "facts" }, [["from", letter.from], ["to", letter.to], ["date", letter.date],
      ["size", octets(letter.octets)], ["unique-id", uniqueId]].map(([key, value]) => value
      && h("div", {}, h("dt", {}, key), h("dd", {}, value)))),
    letter.problem && h("p", { class: "notice" }, letter.problem)), tabbed(tabs));
}

async function removeOne(detail, name, uniqueId) {
  try {
    await call("DELETE", `${API}/maildrops/${at(name)}/messages/${at(uniqueId)}`);
    announce("The message was removed.");
    window.location.hash = `#/mail/${at(name)}`;
  } catch (fault) { put(detail, failure(fault)); }
}

function cut(is) { return is ? h("p", { class: "hint in" }, "The rest is left out here: save the message to see all of it.") : null; }

/** Tabs: left, right, Home and End move between them, as in desktop programs. */
function tabbed(tabs) {
  const panel = h("div", { role: "tabpanel", id: "letter-panel", "aria-labelledby": "letter-tab-0" });
  const buttons = tabs.map(([title, make], index) => h("button", { type: "button", role: "tab", id: `letter-tab-${index}`,
    "aria-controls": "letter-panel", "aria-selected": "false", tabindex: "-1", click: () => pick(index), keydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const to = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1
        : step ? (index + step + tabs.length) % tabs.length : null;
      if (to === null) return;
      event.preventDefault();
      pick(to);
      buttons[to].focus();
    } }, title));

  function pick(index) {
    buttons.forEach((one, other) => {
      one.setAttribute("aria-selected", String(other === index));
      one.tabIndex = other === index ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", `letter-tab-${index}`);
    show(panel, tabs[index][1]());
  }
  pick(0);
  return [h("div", { class: "tabs", role: "tablist", "aria-label": "How the message is shown" }, buttons), panel];
}

function htmlPanel(address, letter) {
  const left = [letter.left_out.remote && counted(letter.left_out.remote, "remote picture or style", "remote pictures and styles"),
    letter.left_out.active && counted(letter.left_out.active, "active element")].filter(Boolean);
  return h("div", {}, left.length ? h("p", { class: "hint in" }, `Left out: ${left.join(", ")}. Links lead nowhere; their title tells where they would.`) : null,
    h("iframe", { class: "frame", title: "HTML part of the message", sandbox: "", referrerpolicy: "no-referrer", src: `${address}/html` }));
}

function headers(letter) {
  return h("div", { class: "table-box" }, h("table", { class: "header-table stacked" }, h("caption", { class: "unseen" }, "Header fields as they stand"),
    h("thead", { class: "unseen" }, h("tr", {}, h("th", { scope: "col" }, "Field"), h("th", { scope: "col" }, "Value"))),
    h("tbody", {}, letter.headers.map(([field, value]) => h("tr", {}, h("th", { scope: "row" }, field || "no field"), h("td", {}, value))))));
}

function attachments(address, letter) {
  return h("div", { class: "table-box" }, h("table", { class: "stacked" }, h("caption", { class: "unseen" }, "Attachments"),
    h("thead", {}, h("tr", {}, ["Name", "Type", "Size", ""].map((one) => h("th", { scope: "col" }, one || h("span", { class: "unseen" }, "Save"))))),
    h("tbody", {}, letter.attachments.map((one) => h("tr", {}, h("th", { scope: "row", "data-name": "Name" }, one.name || "(no name)"),
      h("td", { "data-name": "Type" }, h("code", {}, one.type)), h("td", { "data-name": "Size" }, octets(one.octets)),
      h("td", {}, h("a", { href: `${address}/part/${one.number}`, download: one.name || "part" }, "Save", h("span", { class: "unseen" }, ` ${one.name}`))))))));
}
