// Small hands for building pages. Everything that came from elsewhere is set as text, never as markup.

/** Make an element. `attributes`: strings as they are, true and false for switches, functions for events. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, String(value));
  }
  put(element, ...children);
  return element;
}

/** Add children: elements, texts, lists of them; what is null or false is left out. */
export function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** What stands between the slashes of an address behind `#`; escapes that mean nothing stay as they are. */
export function partsOf(hash) {
  return hash.replace(/^#\/?/, "").split("/").map((one) => {
    try { return decodeURIComponent(one); } catch { return one; }
  });
}

/** Show something else in an element; the focus stays where it was, if that is still there by its id. */
export function show(element, ...children) {
  const held = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren();
  put(element, ...children);
  if (held) document.getElementById(held)?.focus({ preventScroll: true });
  return element;
}

/** Tell something to who does not see it appear. */
export function announce(words) {
  const place = document.getElementById("news");
  place.textContent = "";
  window.setTimeout(() => { place.textContent = words; }, 30);
}

export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

export function octets(number) {
  if (number < 10240) return counted(number, "octet");
  return number < 10485760 ? `${Math.round(number / 1024).toLocaleString("en")} KiB`
    : `${Math.round(number / 1048576).toLocaleString("en")} MiB`;
}

const pad = (number, length = 2) => String(number).padStart(length, "0");

/** A time of day, with the date as its title. `seconds` since 1970. */
export function moment(seconds, precise = false) {
  const at = new Date(seconds * 1000);
  if (Number.isNaN(at.getTime())) return h("span", {}, "?");
  const words = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return h("time", { datetime: at.toISOString(), title: at.toString() },
    precise ? `${words}.${pad(at.getMilliseconds(), 3)}` : words);
}

export function day(seconds) {
  const at = new Date(seconds * 1000);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

/** One that asks before something is lost; answers true or false. */
export function ask(title, words, yes) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "ask-title", close: () => {
      resolve(dialog.returnValue === "yes");
      dialog.remove();
    } }, h("form", { method: "dialog" },
      h("h2", { id: "ask-title" }, title), h("p", {}, words),
      h("div", { class: "row" }, h("button", { value: "yes", class: "strong" }, yes),
        h("button", { value: "no", autofocus: true }, "Cancel"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** What stands where nothing else does yet. */
export function empty(title, ...words) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), ...words);
}

export function failure(fault, again) {
  const problems = fault.problems ?? [];
  return h("div", { class: "failure", role: "alert" }, h("p", {}, h("strong", {}, fault.message)),
    problems.length ? h("ul", {}, problems.map((one) => h("li", {}, one.path && h("code", {}, one.path),
      one.path ? ": " : "", one.message))) : null,
    again && h("button", { type: "button", click: again }, "Try again"));
}

/** A field of a form with its label, and a hint below it. */
export function field(label, input, hint = "") {
  const id = input.id || `f-${Math.random().toString(36).slice(2)}`;
  input.id = id;
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  const tick = input.type === "checkbox";
  return h("div", { class: tick ? "field tick" : "field" }, tick ? input : null, h("label", { for: id }, label),
    tick ? null : input, hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null);
}
