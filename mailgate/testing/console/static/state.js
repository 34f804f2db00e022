// What is known of the harness, kept for all views.

import { call } from "./api.js";

export const API = "/api/v1";
const MOST_SESSIONS = 200;
export const MOST_EVENTS = 2000;       // of one session, that are kept here

class State {
  constructor() {
    this.server = null;
    this.sessions = new Map();  // by number
    this.deliveries = [];       // the latest
    this.accounts = [];
    this.maildrops = [];        // those of accounts that hold nothing, too
    this.faults = [];
    this.scenario = null;
  }

  async loadSessions() {
    const counted = await call("GET", `${API}/sessions?limit=1`);
    const after = Math.max(0, counted.count - MOST_SESSIONS);
    const found = counted.count ? await call("GET", `${API}/sessions?after=${after}&limit=${MOST_SESSIONS}`) : counted;
    this.sessions = new Map(found.sessions.map((one) => [one.number, one]));
  }

  async loadDeliveries() {
    const { count } = await call("GET", `${API}/deliveries?limit=1`);
    const after = Math.max(0, count - MOST_SESSIONS);
    this.deliveries = (await call("GET", `${API}/deliveries?after=${after}&limit=${MOST_SESSIONS}`)).deliveries;
  }

  async loadMail() {
    const [{ accounts }, { maildrops }] = await Promise.all([call("GET", `${API}/accounts`), call("GET", `${API}/maildrops`)]);
    const there = new Set(maildrops.map((one) => one.name));
    this.accounts = accounts;
    this.maildrops = [...maildrops, ...accounts.filter((one) => !there.has(one.name)).map((one) => (
      { name: one.name, messages: 0, octets: 0 }))].sort((one, other) => one.name.localeCompare(other.name));
  }

  async loadTrouble() {
    const found = await call("GET", `${API}/scenario`);
    this.scenario = found.scenario;
    this.faults = found.faults;
  }

  /** Take a notice; returns whether its session was known. */
  take(notice) {
    if (notice.type === "event") {
      const session = this.sessions.get(notice.session);
      if (session && typeof session.events === "number") session.events = Math.max(session.events, notice.index + 1);
      return Boolean(session);
    }
    const known = this.sessions.has(notice.session.number);
    this.sessions.set(notice.session.number, notice.session);
    if (this.sessions.size > MOST_SESSIONS) this.sessions.delete(this.sessions.keys().next().value);
    return known;
  }

  /** Return the latest events of a session, and the index of the one that comes next. */
  async events(number) {
    const session = await call("GET", `${API}/sessions/${number}`);
    this.sessions.set(number, session);
    const after = Math.max(0, session.events - MOST_EVENTS);
    const pieces = [];
    let next = after;
    for (let more = true; more;) {
      const page = await call("GET", `${API}/sessions/${number}/events?after=${next}&limit=1000`);
      pieces.push(...page.events);
      more = page.more && page.next > next;
      next = page.next;
    }
    return { session, pieces, next, left: after };
  }
}

export const state = new State();

/** Return an event as a transcript shows it. */
export function piece(event) {
  const bytes = Uint8Array.from(window.atob(event.octets), (one) => one.charCodeAt(0));
  const text = event.who === "*" ? event.text : new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  return { at: event.at, who: event.who, text, faults: event.faults };
}
