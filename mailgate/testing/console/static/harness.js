// The harness's console: which view is shown, and what stands above all of them.

import { Refused, call, signInByAddress, whenSignedOut } from "./api.js";
import { announce, ask, day, empty, failure, h, moment, partsOf, show } from "./dom.js";
import { Live, showLink } from "./live.js";
import { askForToken } from "./signin.js";
import { API, state } from "./state.js";
import { sessionsView } from "./sessions.js";
import { deliveriesView } from "./deliveries.js";
import { mailView } from "./mail.js";
import { composeView } from "./compose.js";
import { faultsView } from "./faults.js";
import { scenariosView } from "./scenarios.js";
import { accountsView } from "./accounts.js";

const SESSION = "/console/session";
const LOOK_EVERY = 3000;        // milliseconds
const VIEWS = { sessions: sessionsView, deliveries: deliveriesView, mail: mailView, compose: composeView,
  faults: faultsView, scenarios: scenariosView, accounts: accountsView };
const place = document.getElementById("view");
let current = null;             // the view that is shown: { news(notice), again() }
let shownAs = "";
let signedIn = false;

// Which view ---------------------------------------------------------------------------------------

function route() {
  const parts = partsOf(window.location.hash);
  return VIEWS[parts[0]] ? parts : ["sessions"];
}

async function go({ moved = true } = {}) {
  if (!signedIn) return;
  const [name, ...rest] = route();
  for (const link of document.querySelectorAll("[data-section]")) {
    if (link.dataset.section === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const wanted = window.location.hash;
  const inside = place.contains(document.activeElement);
  shownAs = wanted;
  try {
    const view = await VIEWS[name](place, rest, { moved, still: () => shownAs === wanted });
    if (shownAs !== wanted) return;
    current = view;
    if (moved) focusHeading();
    else if (inside && !place.contains(document.activeElement)) heading()?.focus({ preventScroll: true });
  } catch (fault) {
    if (!(fault instanceof Refused)) throw fault;
    if (fault.status === 401) return;
    current = null;
    show(place, failure(fault, () => go()));
  }
}

function heading() {
  const one = place.querySelector("[data-focus]") ?? place.querySelector("h1");
  if (one) one.tabIndex = -1;
  return one;
}

function focusHeading() {
  const one = heading();
  if (!one) return;
  document.title = `${one.textContent.trim()} – mailgate harness`;
  one.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

window.addEventListener("hashchange", () => {
  if (/^#token=/.test(window.location.hash)) begin();
  else go();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});

// Signing in ---------------------------------------------------------------------------------------

function signOut(words = "") {
  signedIn = false;
  live.stop();
  shownAs = "";
  document.getElementById("bar").hidden = true;
  showLink("connecting");
  document.querySelector(".link-words").textContent = "Signed out";
  askForToken(place, { path: SESSION, what: "this harness", words, done: begin, hint: [
    "Open the address that ", h("code", {}, "mailgate harness --console"),
    " printed, or give the token that it printed. A harness that was started again may have another one."] });
}

// What stands above --------------------------------------------------------------------------------

const clock = { now: 0, held: true, seen: 0 };

function tick() {
  const now = clock.now + (clock.held ? 0 : (performance.now() - clock.seen) / 1000);
  show(document.getElementById("clock"), `${day(now)} `, moment(now));
}

function setClock(value) {
  Object.assign(clock, value, { seen: performance.now() });
  const badge = document.getElementById("clock-state");
  badge.textContent = clock.held ? "held" : "running";
  badge.className = clock.held ? "badge warn" : "badge good";
  document.getElementById("hold").textContent = clock.held ? "Let it run" : "Hold";
  tick();
}

async function doing(action) {
  try {
    await action();
  } catch (fault) {
    announce(fault.message);
    await ask("That did not work", [fault.message, ...fault.problems?.map((one) => ` ${one.message}.`) ?? []].join(""),
      "Understood");
  }
}

document.getElementById("hold").addEventListener("click", () => doing(async () => {
  setClock(await call("PUT", `${API}/clock`, { json: { held: !clock.held } }));
  announce(clock.held ? "The clock is held." : "The clock runs.");
}));

document.getElementById("advance").addEventListener("submit", (event) => {
  event.preventDefault();
  doing(async () => {
    const seconds = Number(document.getElementById("advance-by").value) * Number(document.getElementById("advance-unit").value);
    setClock(await call("POST", `${API}/clock/advance`, { json: { seconds } }));
    announce(`The clock was advanced by ${seconds} seconds.`);
  });
});

document.getElementById("reset").addEventListener("click", async () => {
  if (!await ask("Reset the harness?", "All accounts, messages, sessions and faults go. The ports stay.", "Reset")) return;
  doing(async () => {
    await call("POST", `${API}/reset`);
    announce("The harness was reset.");
    await refresh();
    window.location.hash = "#/sessions";
    go({ moved: false });
  });
});

function setCount(name, number) {
  const badge = document.getElementById(`count-${name}`);
  badge.hidden = !number;
  badge.textContent = number;
}

function counts() {
  setCount("sessions", [...state.sessions.values()].filter((one) => one.open).length);
  setCount("mail", state.maildrops.reduce((sum, one) => sum + one.messages, 0));
  setCount("faults", state.faults.length);
  show(document.getElementById("scenario-on"), state.scenario
    ? ["Scenario ", h("a", { href: "#/scenarios" }, state.scenario.name || "of its own")] : []);
}

// News ---------------------------------------------------------------------------------------------

let later = 0;

/** Read what news only tell has changed, soon: many come together. */
function soon(what) {
  waiting.add(what);
  if (later) return;
  later = window.setTimeout(async () => {
    later = 0;
    const changed = [...waiting];
    waiting.clear();
    try {
      await Promise.all(changed.map((one) => LOADS[one]?.() ?? null));
      counts();
      for (const one of changed) current?.news?.({ type: "changed", what: one });
    } catch (fault) {
      if (!(fault instanceof Refused)) throw fault;     // the connection's own state tells it
    }
  }, 150);
}

const waiting = new Set();
const LOADS = {
  maildrops: () => state.loadMail(),
  faults: () => state.loadTrouble(),
  scenario: () => state.loadTrouble(),
  clock: async () => setClock(await call("GET", `${API}/clock`)),
  sessions: () => state.loadSessions(),
  deliveries: () => state.loadDeliveries(),
};
// by the first word of the path in the API that something was done to
const SAME = { accounts: ["maildrops"], deliveries: ["deliveries"], maildrops: ["maildrops"], faults: ["faults"],
  scenario: ["scenario"], clock: ["clock"], reset: Object.keys(LOADS) };

function onMessage(notice) {
  if (notice.type === "changed") {
    for (const one of SAME[notice.what.split("/")[1]] ?? []) soon(one);
    return;
  }
  const before = state.take(notice);
  if (notice.type !== "event") {
    counts();
    soon("maildrops");
    soon("faults");
    if (notice.type === "begin" && !before) announce(`Session ${notice.session.number} has begun.`);
    if (notice.type === "end") announce(`Session ${notice.session.number} has ended: ${notice.session.end}.`);
  }
  current?.news?.(notice);
}

const live = new Live(`${API}/events`, {
  onMessage,
  onState: (how) => {
    showLink(how);
    if (how === "live") refresh().then(catchUp).catch(() => {});
  },
  beforeTry: () => call("GET", `${API}/clock`),
});

/** Show what was missed. A form that somebody is filling in stays as it is. */
function catchUp() {
  if (!current || current.again) go({ moved: false });
  else for (const one of ["maildrops", "faults", "scenario", "sessions"]) current.news?.({ type: "changed", what: one });
}

async function refresh() {
  state.server = await call("GET", `${API}/server`);
  setClock(state.server.clock);
  await Promise.all([state.loadSessions(), state.loadMail(), state.loadTrouble()]);
  counts();
  document.getElementById("bar").hidden = false;
}

async function begin() {
  try {
    await signInByAddress(SESSION);
    await refresh();
    signedIn = true;
    live.start();
    await go();
  } catch (fault) {
    if (fault.status === 401) signOut();
    else {
      showLink("lost");
      show(place, failure(fault, begin));
    }
  }
}

whenSignedOut(() => { if (signedIn) signOut("This browser is not signed in any more."); });
window.setInterval(tick, 1000);
// what a test does by itself, or mail that is delivered, is told to nobody: it is looked for
window.setInterval(() => {
  if (signedIn && document.visibilityState === "visible" && !document.body.classList.contains("is-lost")) {
    for (const one of ["maildrops", "faults", "clock"]) soon(one);
  }
}, LOOK_EVERY);
show(place, empty("Loading …"));
begin();
