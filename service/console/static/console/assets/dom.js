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

const rowStart = (one) => one.closest("tr")?.cells[0] ?? h("td");
const sameText = (one, other) => one.matches(".scroll") || one.textContent === other.textContent; // a table's figures change
const same = (one, other) => one.tagName === other.tagName && one.href === other.href && sameText(one, other) &&
  one.getAttribute("aria-label") === other.getAttribute("aria-label") && rowStart(one).isEqualNode(rowStart(other));

// Replace what a live page shows. The focus stays on the element that looks the same, and tables keep their scroll position.
// Nothing is replaced while a button in it is pressed.
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
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())} ${zone(at)}`;
  return h("time", { datetime: iso, title: `${at.toISOString().slice(0, 19).replace("T", " ")} UTC` }, h("span", {}, day), " ", h("span", {}, clock));
}

export function duration(ms) {
  const seconds = Math.max(ms, 0) / 1000;
  return seconds < 60 ? `${seconds.toFixed(1)} s` : `${number(Math.floor(seconds / 60))} min ${Math.floor(seconds % 60)} s`;
}

// A setting's value before or after a change.
export function setting(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value ?? []);
  if (["", "[]", "{}"].includes(text)) return "none";
  if (Array.isArray(value)) return value.map((one) => (typeof one === "string" ? one : JSON.stringify(one))).join(", ");
  return /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(text) ? when(text) : text;
}

// The browser's zone at a time: "UTC", "UTC+5:30".
export function zone(at) {
  const minutes = -at.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const rest = Math.abs(minutes) % 60;
  return `UTC${minutes < 0 ? "−" : "+"}${Math.floor(Math.abs(minutes) / 60)}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
}

// The hint of a field of date and time, which has no zone of its own.
export const inZone = () => `Time zone: ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`;

// As a field of date and time has it.
export function local(iso) {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

// An amount as the API writes it, "1234.50", with its thousands apart.
export function money(amount, currency) {
  if (amount == null) return "–";
  const [units, ...rest] = amount.split(".");
  return `${[units.replace(/\B(?=(\d{3})+$)/g, ","), ...rest].join(".")} ${currency ?? ""}`.trim();
}

// An amount as a whole number of units with so many digits: floating point numbers would round sums.
const units = (amount, digits) => {
  const [whole, rest = ""] = amount.split(".");
  return BigInt(whole + rest.padEnd(digits, "0"));
};

// Amounts { amount, currency } added up for each currency, in words.
export function sum(amounts) {
  const totals = Map.groupBy(amounts, ({ currency }) => currency ?? "");
  return [...totals].map(([currency, some]) => {
    const digits = Math.max(...some.map(({ amount }) => (amount.split(".")[1] ?? "").length));
    const total = String(some.reduce((before, { amount }) => before + units(amount, digits), 0n)).padStart(digits + 1, "0");
    return money(digits ? `${total.slice(0, -digits)}.${total.slice(-digits)}` : total, currency);
  }).join(" and ");
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

// What the API calls otherwise.
const WORDS = { locked: "held", exhausted: "used up", inactive: "switched off" };
const KINDS = {
  active: "good", available: "good", open: "good", done: "good", redeemed: "info", "used up": "info", assigned: "info",
  running: "info", held: "warn", "switched off": "warn", paused: "warn", cancelled: "warn", behind: "warn", full: "warn",
  low: "warn", "sold out": "bad", "no codes": "warn", "not begun": "warn", ended: "warn",
  recovering: "bad", failed: "bad", closed: "bad", expired: "warn", archived: "", "rolled back": "warn", pending: "info",
  delivered: "good",
};

export function badge(text, kind = KINDS[text] ?? "") {
  return h("span", { class: `badge ${kind}` }, text);
}

// A code's status in words. A book's state comes in words, with a reason where it needs one.
export const statusWord = (status) => WORDS[status] ?? status;
export const statusBadge = (status) => badge(statusWord(status));
export const bookState = ({ state, why }) => [badge(state), why && h("div", { class: "hint" }, why)];

export const code = (text) => h("a", { class: "code", href: `#/code/${encodeURIComponent(text)}` }, text);
export const user = (text) => (text ? h("a", { href: `#/user/${encodeURIComponent(text)}` }, text) : "–");
export const order = (text) => (text ? h("a", { href: `#/order/${encodeURIComponent(text)}` }, text) : "–");

// Who made a change, as the audit names it; null if that is not known.
export function actorOf({ actor, keyName, keyId, person }) {
  return { key: keyName ?? keyId, person, command: "the command line", service: "the service" }[actor] ?? null;
}

// ` by the key shop`, ` by ada@shop.example`; "" if it is not known.
export const byActor = (made) => (made.actor ? ` by ${made.actor === "key" ? "the key " : ""}${actorOf(made)}` : "");

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

// Columns are { name, of: row → cell, number, class, hidden: name is for screen readers alone }. On a small screen each row is
// a card (parts.css); the roles are for then, as what is no table by its display has none.
export function table(caption, columns, rows, empty = "Nothing here yet.") {
  const cell = (column) => [column.number && "number", column.class].filter(Boolean).join(" ") || null;
  if (rows.length === 0) return h("div", { class: "scroll" }, h("p", { class: "empty" }, empty));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", { role: "table" },
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((column) =>
        h("th", { scope: "col", role: "columnheader", class: cell(column) }, column.hidden ? h("span", { class: "unseen" }, column.name) : column.name)))),
      h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, columns.map((column) =>
        h("td", { role: "cell", class: cell(column), "data-name": column.hidden ? null : column.name }, column.of(row))))))));
}

// A list that goes on: `load(cursor)` gives { items, nextCursor }; more comes by a button.
export async function listing(place, caption, columns, load, empty) {
  const items = [];
  let next = null;
  const more = h("button", { type: "button", onclick: () => busy([more], go).catch(tell) }, "Show more");
  async function go() {
    const page = await load(next);
    items.push(...page.items);
    next = page.nextCursor;
    fill(place, table(caption, columns, items, empty), next && h("p", {}, more));
  }
  await go();
  return items;
}

const CHOICE_MS = 1_000; // as long as browsers join letters to the text of one option
let fields = 0;

export function field(label, control, hint = null) {
  control.id ||= `f${++fields}`;
  const check = control.type === "checkbox";
  const error = h("span", { class: "error", id: `${control.id}-error` });
  const hintElement = hint && h("span", { class: "hint", id: `${control.id}-hint` }, hint);
  control.setAttribute("aria-describedby", hintElement ? `${error.id} ${hintElement.id}` : error.id);
  const name = h("label", { for: control.id }, label);
  return h("div", { class: check ? "field check" : "field" }, check ? [control, name, error, hintElement] : [name, error, control, hintElement]);
}

// Checkboxes of one field; the name is as the API names it.
export function choices(label, name, boxes) {
  const id = `f${++fields}`;
  return h("fieldset", { id, name, "aria-describedby": `${id}-error` }, h("legend", {}, label), h("p", { class: "error", id: `${id}-error` }), boxes);
}

export const input = (attributes = {}) => h("input", { type: "text", autocomplete: "off", ...attributes });

export function select(options, value, attributes = {}) {
  const made = h("select", attributes, options.map(([key, text]) => h("option", { value: key }, text)));
  made.value = value;
  return made;
}

// What a choice does: at once, or by keyboard a pause after the last key, as each letter and each arrow may change it.
export function onChoice(control, act) {
  const before = control.value;
  let timer = 0;
  let byKeys = false;
  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => control.isConnected && control.value !== before && act(), CHOICE_MS);
  };
  control.addEventListener("keydown", () => { byKeys = true; wait(); });
  control.addEventListener("pointerdown", () => { byKeys = false; });
  control.addEventListener("change", () => (byKeys ? wait() : act()));
}

// ---- telling and asking

// Disable the buttons while it runs. A disabled button loses the focus: it gets it back, unless something else has it by then.
export async function busy(buttons, act) {
  const focused = document.activeElement;
  for (const button of buttons) button.disabled = true;
  try {
    return await act();
  } finally {
    for (const button of buttons) button.disabled = false;
    if (document.activeElement === document.body) focused.focus({ preventScroll: true });
  }
}

export function toast(text, kind = "good") {
  const made = h("p", { class: `toast ${kind}` }, text);
  document.getElementById("messages").append(made);
  setTimeout(() => made.remove(), kind === "bad" ? 12_000 : 5_000);
}

export const sentence = (text) => text[0].toUpperCase() + text.slice(1);
// `discount.maxAmount` in words.
export const spelled = (path) => sentence(path.replace(/\[(\d+)\]/g, (_, place) => ` ${Number(place) + 1}`).replace(/([A-Z])/g, " $1").replaceAll(".", " ").toLowerCase());
// A reason without the API's names: `validFrom` is "valid from".
const plain = (reason) => reason.replaceAll("`", "").replace(/\b[a-z]+([A-Z][a-z]+)+\b/g, (name) => spelled(name).toLowerCase());
const lines = (errors) => errors.map(({ field: path, reason }) => `${spelled(path)} ${plain(reason)}.`).join(" ");

// What went wrong, in words.
export function words(error) {
  if (error.errors?.length) return lines(error.errors);
  return error.message + (error.code ? ` (${error.code})` : "");
}

// Show each error of a refusal beside its control, which has the name that the API gives the field. Returns what belongs to
// none of them, in words; an error of null clears all. The first of them gets the focus, unless the user goes on typing.
export function showErrors(form, error, focuses = true) {
  const controls = [...form.elements].filter(({ id, name }) => id && name);
  const slot = ({ id }) => document.getElementById(`${id}-error`);
  for (const control of controls) {
    control.removeAttribute("aria-invalid");
    if (slot(control)) slot(control).textContent = "";
  }
  if (!error) return "";
  const rest = [];
  for (const one of error.errors ?? []) {
    const control = controls.find(({ name }) => one.field === name || one.field.startsWith(`${name}[`) || one.field.startsWith(`${name}.`));
    if (!control || !slot(control)) rest.push(one);
    else if (!slot(control).textContent) {
      control.setAttribute("aria-invalid", "true");
      slot(control).textContent = `${sentence(plain(one.reason))}.`;
    }
  }
  if (focuses) form.querySelector("[aria-invalid]")?.focus();
  return error.errors?.length ? lines(rest) : words(error);
}

export function tell(error) {
  if (error.name !== "AbortError" && error.code !== "unauthenticated") toast(words(error), "bad");
}

// A dialog; resolves to what `act` gave, or null where it was left. Refusals stay in the dialog. One that is kept closes by its
// button alone: not by Esc, and not with the page.
export function ask(title, content, label, act, { danger = false, kept = false } = {}) {
  const dialog = document.getElementById("dialog");
  const stay = (event) => (event.type === "cancel" || event.key === "Escape") && event.preventDefault();
  if (kept) {
    dialog.dataset.kept = "";
    for (const name of ["keydown", "cancel"]) dialog.addEventListener(name, stay);
  }
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
      error.textContent = showErrors(form, null);
      try {
        result = (await busy([go], () => act(form))) ?? true;
        dialog.close();
      } catch (problem) {
        error.textContent = showErrors(form, problem);
      }
    });
    fill(dialog, form);
    dialog.addEventListener("close", () => {
      for (const name of ["keydown", "cancel"]) dialog.removeEventListener(name, stay);
      delete dialog.dataset.kept;
      fill(dialog); // it may have held a secret
      resolve(result);
    }, { once: true });
    dialog.showModal();
  });
}

// Copies the text of an element, or selects it where that is not allowed.
export const copyButton = (place, label = "Copy") => h("button", { type: "button", onclick: () =>
  navigator.clipboard.writeText(place.textContent).then(() => toast("Copied."), () => getSelection().selectAllChildren(place)) }, label);

// A dialog that shows a secret once.
export function reveal(title, secret) {
  const output = h("output", { class: "code" }, secret);
  return ask(title, [
    h("p", {}, "It is shown only this once. Store it with your other secrets."),
    h("p", { class: "banner" }, output), copyButton(output),
  ], null, async () => null, { kept: true });
}

// ---- files

// How CSV files are written: for Excel, which reads the list separator of its language, or for programs.
let excel = (0.5).toLocaleString().includes(",") ? "semicolon" : "comma";
const FORMATS = [["comma", "Excel, commas"], ["semicolon", "Excel, semicolons"], ["", "CSV for programs"]];
export const fileFormat = () => excel;
const formatted = (path) => (excel ? `${path}${path.includes("?") ? "&" : "?"}excel=${excel}` : path);

// A link to a CSV file of the API, as the choice beside it says.
export const fileLink = (path, label, attributes = {}) =>
  h("a", { ...attributes, href: formatted(path), "data-file": path, download: true }, label);

export function fileFormats() {
  const made = select(FORMATS, excel, { "aria-label": "Format of files", class: "format" });
  made.addEventListener("change", () => {
    excel = made.value;
    for (const other of document.querySelectorAll("select.format")) other.value = excel;
    for (const link of document.querySelectorAll("a[data-file]")) link.href = formatted(link.dataset.file);
  });
  return made;
}

export function download(name, content, type = "text/csv") {
  const url = URL.createObjectURL(new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
