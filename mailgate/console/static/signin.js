// The form that asks a browser for the token.

import { Refused, signIn } from "./api.js";
import { failure, field, h, show } from "./dom.js";

/** Show the form in a place. `path` takes the token, `what` says whose it is, `hint` where it is found; `done` goes on with who is let in. */
export function askForToken(place, { path, what, hint, words = "", done }) {
  const token = h("input", { id: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" });
  const told = h("div", { role: "alert" }, words);
  show(place, h("form", { class: "sheet in stack sign-in", submit: async (event) => {
    event.preventDefault();
    try {
      await signIn(path, token.value.trim());
      await done();
    } catch (fault) {
      show(told, failure(fault.status === 401 ? new Refused(401, `This is not the token of ${what}.`) : fault));
      token.setAttribute("aria-invalid", "true");
      token.select();
    }
  } }, h("h1", {}, "Which token?"), h("p", { class: "soft" }, hint), told, field("Token", token),
  h("div", {}, h("button", { class: "strong" }, "Sign in"))));
  token.focus();
}
