// Accounts: who can log in, and another one.

import { call } from "./api.js";
import { announce, ask, empty, failure, field, h, moment, show } from "./dom.js";
import { API, state } from "./state.js";

export async function accountsView(place) {
  const table = h("div", { class: "sheet" });
  const name = h("input", { id: "account-name", required: true, autocomplete: "off", spellcheck: "false" });
  const password = h("input", { id: "account-password", autocomplete: "off", spellcheck: "false", value: "secret" });
  const host = h("input", { id: "account-sdps", type: "checkbox" });
  const outcome = h("div", { role: "status" });

  function fill() {
    const { accounts } = state;
    show(table, accounts.length ? h("div", { class: "table-box" }, h("table", { class: "stacked" }, h("caption", { class: "unseen" }, "Accounts"),
      h("thead", {}, h("tr", {}, ["Name", "Receives", "Last login", ""].map((one) => h("th", { scope: "col" }, one || h("span", { class: "unseen" }, "Remove"))))),
      h("tbody", {}, accounts.map((one) => h("tr", {}, h("th", { scope: "row", "data-name": "Name" },
        h("span", {}, h("a", { href: `#/mail/${encodeURIComponent(one.name)}`, id: `account-${one.name}` }, one.name),
          one.sdps && [" ", h("span", { class: "badge lead" }, "SDPS host")])),
      h("td", { "data-name": "Receives" }, [...one.addresses, ...one.domains.map((domain) => `*@${domain}`)].join(", ") || "–"),
      h("td", { "data-name": "Last login" }, one.last_login === null ? "never" : moment(one.last_login)),
      h("td", {}, h("button", { type: "button", class: "small lost", id: `remove-${one.name}`, click: () => remove(one.name) }, "Remove",
        h("span", { class: "unseen" }, ` ${one.name}`))))))))
      : empty("No accounts yet", h("p", {}, "Nobody can log in. Add one to begin with.")));
  }

  async function remove(who) {
    if (!await ask(`Remove ${who}?`, "The account and its maildrop go.", "Remove")) return;
    try {
      await call("DELETE", `${API}/accounts/${encodeURIComponent(who)}`);
      announce(`${who} was removed.`);
      await again();
    } catch (fault) { show(outcome, failure(fault)); }
  }

  const again = async () => { await state.loadMail(); fill(); };
  fill();
  show(place, h("div", { class: "head" }, h("h1", {}, "Accounts")), h("div", { class: "split wide" }, table,
    h("form", { class: "sheet in stack", "aria-labelledby": "account-title", submit: async (event) => {
      event.preventDefault();
      try {
        const added = await call("POST", `${API}/accounts`, { json: { name: name.value.trim(), password: password.value, sdps: host.checked } });
        show(outcome, h("p", {}, h("span", { class: "badge good" }, "added"), ` ${added.name}`));
        name.value = "";
        name.focus();
        await again();
      } catch (fault) { show(outcome, failure(fault)); }
    } }, h("h2", { id: "account-title" }, "Add an account"), field("Name", name, "Its address is NAME@the harness's host name."),
    field("Password", password, "Shown, because it is a test's."), field("SDPS host", host, "A host that fetches the mail of all its users."),
    h("div", { class: "row" }, h("button", { class: "strong" }, "Add")), outcome)));
  return { news: (notice) => { if (notice.type === "changed" && notice.what === "maildrops") fill(); } };
}
