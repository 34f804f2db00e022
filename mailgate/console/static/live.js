// News from the server as they happen, over a WebSocket that comes back by itself.

const FIRST_WAIT = 400;         // milliseconds
const LONGEST_WAIT = 5000;

/** `onState` is told "connecting", "live" or "lost" (with the milliseconds until the next try). */
export class Live {
  constructor(path, { onMessage, onState, beforeTry = async () => {} }) {
    this.path = path;
    this.onMessage = onMessage;
    this.onState = onState;
    this.beforeTry = beforeTry;
    this.wait = FIRST_WAIT;
    this.socket = null;
    this.timer = 0;
    this.wanted = false;
    window.addEventListener("online", () => { if (this.wanted && !this.socket) this.connect(); });
  }

  start() {
    if (this.wanted) return;
    this.wanted = true;
    this.onState("connecting");
    this.connect();
  }

  stop() {
    this.wanted = false;
    window.clearTimeout(this.timer);
    this.socket?.close();
    this.socket = null;
  }

  send(value) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(value));
  }

  async connect() {
    window.clearTimeout(this.timer);
    try {
      await this.beforeTry();       // over HTTP it can be seen why there is no connection
    } catch (fault) {
      if (fault.status !== 401) this.lost();
      else this.stop();
      return;
    }
    if (!this.wanted || this.socket) return;
    const address = new URL(this.path, window.location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = this.socket = new WebSocket(address);
    socket.addEventListener("open", () => { this.wait = FIRST_WAIT; this.onState("live"); });
    socket.addEventListener("message", (event) => this.onMessage(JSON.parse(event.data)));
    socket.addEventListener("close", () => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (this.wanted) this.lost();
    });
  }

  lost() {
    this.onState("lost", this.wait);
    this.timer = window.setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(LONGEST_WAIT, this.wait * 1.6);
  }
}

/** Show the connection's state in the page's header. */
export function showLink(state) {
  const words = { connecting: "Connecting …", live: "Live", lost: "Connection lost, trying again …" }[state];
  const place = document.getElementById("link");
  if (place.dataset.state === state) return;
  place.dataset.state = state;
  place.querySelector(".link-words").textContent = words;
  document.body.classList.toggle("is-lost", state === "lost");
}
