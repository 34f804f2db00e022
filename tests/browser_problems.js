// What is wrong with a page as it is shown now, for tests/browser.py: layout, names, structure, contrast.
() => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) {
    const wide = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > root.clientWidth + 1);
    found.push(`scrolls sideways: ${root.scrollWidth} > ${root.clientWidth}: ${wide.slice(-3).map((one) => one.outerHTML.slice(0, 80))}`);
  }
  const shown = (one) => one.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && one.getClientRects().length;
  const unseen = (one) => one.closest(".unseen, [hidden]") || getComputedStyle(one).clipPath === "inset(50%)";

  // names: every control has one, every picture, frame and table too
  const text = (one) => one.textContent.trim();
  const byIds = (ids) => (ids ?? "").split(/ +/).map((id) => id && document.getElementById(id)).filter(Boolean).map(text).join(" ");
  const nameOf = (one) => one.getAttribute("aria-label") || byIds(one.getAttribute("aria-labelledby"))
    || [...(one.labels ?? [])].map(text).join(" ") || (/^(A|BUTTON|SUMMARY)$/.test(one.tagName) ? text(one) : "") || one.title;
  for (const one of document.querySelectorAll("a[href], button, input, select, textarea, summary, [role=tab]")) {
    if (shown(one) && !nameOf(one)) found.push(`has no name: ${one.outerHTML.slice(0, 120)}`);
  }
  for (const one of document.querySelectorAll("img:not([alt]), iframe:not([title]), table:not(:has(caption))")) {
    found.push(`is not told: ${one.outerHTML.slice(0, 80)}`);
  }
  for (const one of document.querySelectorAll("th:not([scope])")) found.push(`a heading of nothing: ${one.outerHTML}`);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of new Set(ids.filter((one, index) => ids.indexOf(one) !== index))) found.push(`an id twice: ${id}`);
  for (const one of document.querySelectorAll("[aria-controls], [aria-describedby], [aria-labelledby]")) {
    for (const name of ["aria-controls", "aria-describedby", "aria-labelledby"]) {
      for (const id of (one.getAttribute(name) ?? "").split(/ +/)) if (id && !document.getElementById(id)) found.push(`${name}: no ${id}`);
    }
  }

  // structure
  for (const one of ["header", "main", "nav[aria-label]", "h1", "[lang]"]) if (!document.querySelector(one)) found.push(`no ${one}`);
  if (document.querySelectorAll("h1").length > 1) found.push("several h1");
  let level = 1;
  for (const one of document.querySelectorAll("h1, h2, h3, h4")) {
    const own = Number(one.tagName[1]);
    if (own > level + 1) found.push(`a heading is skipped before ${text(one)}`);
    level = own;
  }
  for (const one of document.querySelectorAll("[tabindex]")) if (one.tabIndex > 0) found.push(`tabindex ${one.tabIndex}`);
  for (const one of document.querySelectorAll("[style], [onclick], script:not([src])")) found.push(`inline: ${one.outerHTML.slice(0, 80)}`);

  // contrast of all text with what it stands on (WCAG 2.2, 1.4.3)
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (value) => {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = value;
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = probe.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((one, index) => one * top[3] + below[index] * (1 - top[3]));
  const light = (colour) => colour.slice(0, 3).map((one) => one / 255).map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3]) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const judged = new Set();
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || judged.has(one) || !shown(one) || unseen(one) || one.closest("noscript, :disabled, .is-lost main")) continue;
    judged.add(one);
    const style = getComputedStyle(one);
    const below = ground(one);
    const [bright, dark] = [light(over(rgba(style.color), below)), light(below)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const ratio = (bright + 0.05) / (dark + 0.05);
    if (ratio < needed - 0.005) found.push(`contrast ${ratio.toFixed(2)}: ${text(one).slice(0, 40)} (${style.color} on ${below.map(Math.round)})`);
  }

  // what is touched is large enough (WCAG 2.2, 2.5.8), links within text apart
  for (const one of document.querySelectorAll("button, select, input, textarea, nav a")) {
    const box = one.getBoundingClientRect();
    if (shown(one) && !unseen(one) && one.type !== "checkbox" && (box.width < 24 || box.height < 24)) found.push(`small: ${one.outerHTML.slice(0, 80)}`);
  }
  return found;
}
