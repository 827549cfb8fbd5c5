// Parts of pages: elements, tables, texts for times and amounts, dialogs.

const SVG = new Set(["svg", "line", "polyline", "rect", "text", "title"]);

// An element; `on…` are listeners, false and null leave an attribute out, text is only ever text.
export function h(tag, attributes = {}, ...children) {
  const made = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "indeterminate") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((child) => child !== false && child != null));
  return made;
}

export function fill(place, ...children) {
  place.replaceChildren(...children.flat(9).filter((child) => child !== false && child != null));
}

const same = (one, other) => one.tagName === other.tagName && one.href === other.href && one.textContent === other.textContent &&
  one.getAttribute("aria-label") === other.getAttribute("aria-label");

// Fill it anew, as what is live does: focus stays on what looks the same, a table as far aside as it was moved; nothing is
// taken away under a pressed button.
export function refill(place, ...children) {
  if (place.matches(":active")) return;
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  const aside = [...place.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  fill(place, ...children);
  [...place.querySelectorAll(".scroll")].forEach((one, number) => { one.scrollLeft = aside[number] ?? 0; });
  if (focused) [...place.querySelectorAll("a, button, summary, [tabindex]")].find((one) => same(one, focused))?.focus({ preventScroll: true });
}

// ---- words

export const number = (value) => (value == null ? "–" : value.toLocaleString("en"));

export function bytes(value) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${value >= 100 || unit === "B" ? Math.round(value) : value.toFixed(1)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} TB`;
}

export function when(iso) {
  if (!iso) return "–";
  const at = new Date(iso);
  const pad = (part) => String(part).padStart(2, "0");
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  const text = `${day} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return h("time", { datetime: iso, title: iso }, text);
}

// As a field of date and time has it.
export function local(iso) {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

export function money(amount, currency) {
  return amount == null ? "–" : `${amount} ${currency ?? ""}`.trim();
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

const KINDS = {
  active: "good", available: "good", open: "good", done: "good", redeemed: "info", exhausted: "info", assigned: "info",
  running: "info", locked: "warn", inactive: "warn", behind: "warn", full: "warn", recovering: "bad", failed: "bad",
  closed: "bad", paused: "warn", cancelled: "warn", expired: "warn", archived: "", "rolled back": "warn", stands: "good", pending: "info", delivered: "good",
};

export function badge(text, kind = KINDS[text] ?? "") {
  return h("span", { class: `badge ${kind}` }, text);
}

export const code = (text) => h("a", { class: "code", href: `#/code/${encodeURIComponent(text)}` }, text);
export const user = (text) => (text ? h("a", { href: `#/user/${encodeURIComponent(text)}` }, text) : "–");
export const order = (text) => (text ? h("a", { href: `#/order/${encodeURIComponent(text)}` }, text) : "–");

// ---- parts of pages

export function head(title, more = null, ...actions) {
  document.title = `${title} · Scrip`;
  return h("div", { class: "head" },
    h("div", {}, h("h1", { tabindex: -1 }, title), more && h("p", { class: "soft" }, more)),
    actions.length > 0 && h("div", { class: "row" }, actions));
}

export function card(title, ...children) {
  return h("section", { class: "card" }, h("header", {}, h("h2", {}, title)), children);
}

export function pairs(rows) {
  return h("dl", { class: "pairs" }, rows.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

// Columns are { name, of: row → cell, number, class, hidden: name is for screen readers alone }.
export function table(caption, columns, rows, empty = "There is nothing here yet.") {
  const cell = (column) => [column.number && "number", column.class].filter(Boolean).join(" ") || null;
  if (rows.length === 0) return h("div", { class: "scroll" }, h("p", { class: "empty" }, empty));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((column) =>
        h("th", { scope: "col", class: cell(column) }, column.hidden ? h("span", { class: "unseen" }, column.name) : column.name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map((column) => h("td", { class: cell(column) }, column.of(row))))))));
}

// A list that goes on: `load(cursor)` gives { items, nextCursor }; more comes by a button.
export async function listing(place, caption, columns, load, empty) {
  const items = [];
  let next = null;
  const more = h("button", { type: "button", onclick: () => go().catch(tell) }, "Show more");
  async function go() {
    more.disabled = true;
    try {
      const page = await load(next);
      items.push(...page.items);
      next = page.nextCursor;
      const had = document.activeElement === more;
      fill(place, table(caption, columns, items, empty), next && h("p", {}, more));
      if (had && next) more.focus();
    } finally {
      more.disabled = false;
    }
  }
  await go();
  return items;
}

let fields = 0;

export function field(label, control, hint = null) {
  control.id ||= `f${++fields}`;
  const check = control.type === "checkbox";
  const hintElement = hint && h("span", { class: "hint", id: `${control.id}-hint` }, hint);
  if (hintElement) control.setAttribute("aria-describedby", hintElement.id);
  const name = h("label", { for: control.id }, label);
  return h("div", { class: check ? "field check" : "field" }, check ? [control, name, hintElement] : [name, control, hintElement]);
}

export const input = (attributes = {}) => h("input", { type: "text", autocomplete: "off", ...attributes });

export function select(options, value, attributes = {}) {
  const made = h("select", attributes, options.map(([key, text]) => h("option", { value: key }, text)));
  made.value = value;
  return made;
}

// ---- telling and asking

export function toast(text, kind = "good") {
  const made = h("p", { class: `toast ${kind}` }, text);
  document.getElementById("messages").append(made);
  setTimeout(() => made.remove(), kind === "bad" ? 12_000 : 5_000);
}

// What went wrong, in the API's words.
export function words(error) {
  const about = (error.errors ?? []).map(({ field: name, reason }) => `${name}: ${reason}`);
  return [error.message, ...about].join(" ") + (error.code ? ` (${error.code})` : "");
}

export function tell(error) {
  if (error.name !== "AbortError" && error.code !== "unauthenticated") toast(words(error), "bad");
}

// A dialog; resolves to what `act` gave, or null where it was left. Refusals stay in the dialog.
export function ask(title, content, label, act, { danger = false } = {}) {
  const dialog = document.getElementById("dialog");
  const error = h("p", { class: "error", role: "alert" });
  const go = h("button", { class: danger ? "danger" : "primary" }, label);
  return new Promise((resolve) => {
    let result = null;
    const form = h("form", { method: "dialog" },
      h("h2", { id: "dialog-title" }, title), content, error,
      h("div", { class: "row actions" },
        h("button", { type: "button", onclick: () => dialog.close() }, label ? "Cancel" : "Close"), label && go));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (go.disabled) return;
      go.disabled = true;
      error.textContent = "";
      try {
        result = (await act(form)) ?? true;
        dialog.close();
      } catch (problem) {
        error.textContent = words(problem);
      } finally {
        go.disabled = false;
      }
    });
    fill(dialog, form);
    dialog.addEventListener("close", () => {
      fill(dialog); // it may have held a secret
      resolve(result);
    }, { once: true });
    dialog.showModal();
  });
}

// A dialog that shows a secret once.
export function reveal(title, secret) {
  const output = h("output", { class: "code" }, secret);
  const copy = () => navigator.clipboard.writeText(secret).then(() => toast("It is copied."), () => getSelection().selectAllChildren(output));
  return ask(title, [
    h("p", {}, "This is the only time it is shown. Keep it where secrets are kept."),
    h("p", { class: "banner" }, output), h("button", { type: "button", onclick: copy }, "Copy"),
  ], null, async () => null);
}

export function download(name, text, type = "text/csv") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
