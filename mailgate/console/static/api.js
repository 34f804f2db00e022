// Requests to the server that this page came from.

/** A request that was refused, or got no answer (status 0). */
export class Refused extends Error {
  constructor(status, words, problems = []) {
    super(words);
    this.status = status;
    this.problems = problems;
  }
}

let onSignedOut = () => {};

/** Have something done when the server does not know this browser (any more). */
export function whenSignedOut(action) { onSignedOut = action; }

/** Carry out a request; return its JSON, its text, or null. Raises: Refused. */
export async function call(method, path, { json, body, type, headers = {}, quiet = false } = {}) {
  const sent = { ...headers };
  if (json !== undefined) { sent["Content-Type"] = "application/json"; body = JSON.stringify(json); }
  if (type) sent["Content-Type"] = type;
  let response;
  try {
    response = await fetch(path, { method, body, headers: sent, credentials: "same-origin", cache: "no-store",
      redirect: "error" });
  } catch {
    throw new Refused(0, "The server does not answer. It may have ended.");
  }
  const said = await response.text();
  let value = said;
  if (/json/.test(response.headers.get("Content-Type") ?? "")) {
    try { value = JSON.parse(said); } catch { value = null; }
  }
  if (response.ok) return said ? value : null;
  if (response.status === 401 && !quiet) onSignedOut();
  throw new Refused(response.status, value?.detail || value?.title || `The server answered ${response.status}.`,
    value?.problems ?? []);
}

/** Exchange the token in the address, if there is one, for a cookie, and take it out of the address. */
export async function signInByAddress(path) {
  const found = /^#token=([\w.~-]+)$/.exec(window.location.hash);
  if (!found) return;
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
  await signIn(path, found[1]);
}

/** Show the token, get a cookie. Raises: Refused. */
export async function signIn(path, token) {
  await call("POST", path, { headers: { Authorization: `Bearer ${token}` }, quiet: true });
}
