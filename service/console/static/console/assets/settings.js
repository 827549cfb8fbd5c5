// The workspace's settings: what applies to all of its books and keys.

import { at, patch } from "./api.js";
import { ask, badge, card, field, fill, h, head, input, number, pairs, plural, select, tell, toast } from "./dom.js";

const BOOKS = 200;
const NUMBERS = {
  couponsPerOrder: ["Coupons per order", "Empty: 1."],
  maxCoupons: ["Coupons per user", "Over all books, until they are used up or expired. Empty: no limit."],
  idempotencyHours: ["Hours an Idempotency-Key is stored", "Of later requests. Empty: 24."],
};
const LIMITS = {
  keys: ["Limits of a key", "Of keys without limits of their own.", {
    requestsPerMinute: "Requests per minute", missesPerMinute: "Unknown codes per minute",
    addressMissesPerMinute: "Unknown codes per minute and address", liveLocks: "Holds at one time",
  }],
  books: ["Limits of a book", "Of books without limits of their own.", {
    missesPerMinute: "Tries of others' codes per minute", locksPerUser: "Holds of a user at one time", lockedPercent: "Held share of what is left (%)",
  }],
};
const UNLIMITED = { addressMissesPerMinute: "no limit, but 100 for a key with the scope public" };

const limitOf = ({ limits }, kind, name) => limits?.[kind]?.[name] ?? null;
const whole = (control) => (control.value.trim() === "" ? null : Number(control.value));
const numeric = (name, value) => input({ name, type: "number", min: 1, value: value ?? "" });

// The books to choose from: null if the key may not list them.
export async function listBooks(page) {
  if (!page.may("manage")) return null;
  return (await page.get(at("/v1/books", { limit: BOOKS }))).items;
}

export function giftControl({ giftBookId }, books) {
  if (!books) return input({ name: "giftBookId", value: giftBookId ?? "", class: "code" });
  const options = books.map(({ bookId, name }) => [bookId, name]);
  if (giftBookId && !books.some(({ bookId }) => bookId === giftBookId)) options.unshift([giftBookId, giftBookId]);
  return select([["", "None"], ...options], giftBookId ?? "", { name: "giftBookId" });
}

const isZone = (zone) => Intl.supportedValuesOf("timeZone").includes(zone) || zone === "UTC";

// What a change of the currency or the time zone changes, before it is saved, in sentences; none while it is typed.
function consequences(was, currency, zone, books) {
  const running = books?.filter(({ status, discount }) => status !== "archived" && discount?.currency === was.currency).length;
  const count = running >= 0 && books.length < BOOKS ? ` (${number(running)})` : "";
  return [
    currency.length === 3 && currency !== was.currency && `Books in ${was.currency}${count} keep it, and refuse an order that names no currency: such orders are in ${currency} from now on. New books are in ${currency}, too. What was redeemed keeps its currency.`,
    zone !== was.timeZone && isZone(zone) && `Hours, days and weeks of reports begin by ${zone} from now on. Those of the past keep ${was.timeZone} until an operator runs scrip reports --repair.`,
  ].filter(Boolean);
}

// Change the settings in a dialog. Sends only the changed ones.
async function edit(was, books) {
  const currency = input({ name: "currency", required: true, maxlength: 3, value: was.currency });
  const gift = giftControl(was, books);
  const zone = input({ name: "timeZone", required: true, maxlength: 64, value: was.timeZone });
  const numbers = Object.entries(NUMBERS).map(([name, [label, hint]]) => [name, numeric(name, was[name]), label, hint]);
  const limits = Object.entries(LIMITS).flatMap(([kind, [, , names]]) => Object.entries(names).map(([name, label]) =>
    [kind, name, numeric(`limits.${kind}.${name}`, limitOf(was, kind, name)), label]));
  const read = () => {
    const fields = { currency: currency.value.trim().toUpperCase(), giftBookId: gift.value.trim() || null };
    fields.timeZone = zone.value.trim();
    for (const [name, control] of numbers) fields[name] = whole(control);
    const changed = Object.entries(fields).filter(([name, value]) => value !== was[name]);
    if (limits.some(([kind, name, control]) => whole(control) !== limitOf(was, kind, name))) {
      const all = { keys: {}, books: {} };
      for (const [kind, name, control] of limits) all[kind][name] = whole(control);
      changed.push(["limits", limits.some(([, , control]) => whole(control) !== null) ? all : null]);
    }
    return Object.fromEntries(changed);
  };
  const warning = h("div", { class: "wide", role: "status" });
  const warn = () => {
    const texts = consequences(was, currency.value.trim().toUpperCase(), zone.value.trim(), books);
    fill(warning, texts.map((text) => h("p", { class: "banner warn" }, text)));
  };
  for (const control of [currency, zone]) control.addEventListener("input", warn);
  return ask("Change the settings", h("div", { class: "form" },
    field("Currency", currency, "ISO 4217, such as EUR. Of new books, and of orders that name none."),
    field("Time zone", zone, "Of the hours, days and weeks of reports, such as Europe/Berlin."),
    warning,
    field("Gift of a checkout", gift, `A book, unless the redeemed code's book names another.${books?.length === BOOKS ? ` The newest ${BOOKS}.` : ""}`),
    numbers.map(([, control, label, hint]) => field(label, control, hint)),
    Object.entries(LIMITS).map(([kind, [title]]) => [
      h("h3", { class: "wide" }, title), limits.filter(([of]) => of === kind).map(([, name, control, label]) => field(label, control, `Empty: ${UNLIMITED[name] ?? "no limit"}.`)),
    ])), "Save", () => patch("/v1/workspace", read()));
}

function storageBadge({ storageUsedMib, storageMib }) {
  if (storageUsedMib < storageMib * 0.8) return [];
  return [" ", storageUsedMib < storageMib ? badge("nearly full", "warn") : badge("full", "bad")];
}

export async function show(main, _, page) {
  let [settings, books] = await Promise.all([page.get("/v1/workspace"), listBooks(page)]);
  const place = h("div", { class: "halves" });
  const change = async () => {
    const made = await edit(settings, books);
    if (!made) return;
    settings = made;
    page.session.currency = made.currency; // of the amounts on other pages
    paint();
    toast("The settings are changed.");
  };
  function paint() {
    const { giftBookId } = settings;
    const gift = books?.find(({ bookId }) => bookId === giftBookId);
    fill(place,
      card("Workspace", pairs([
        ["Name", settings.name],
        ["Mode", [badge(settings.mode, settings.mode === "test" ? "warn" : "info"), settings.mode === "test" ? " Its clock can be set." : ""]],
        ["Id", h("span", { class: "code" }, settings.workspaceId)],
        ["Storage", [`${number(settings.storageUsedMib)} of ${number(settings.storageMib)} MiB`, ...storageBadge(settings)]],
        ["Access", [h("a", { href: "#/keys" }, "Keys"), " · ", h("a", { href: at("#/audit", { action: "workspace.changed" }) }, "Who changed the settings")]],
      ]), h("p", { class: "hint" }, "Name and mode are chosen when a workspace is created, on the command line. When the storage is full, nothing new is created or held: archive books that have ended, or let the service's operator raise the bound.")),
      card("Orders and users", pairs([
        ["Currency", settings.currency],
        ["Time zone of reports", settings.timeZone],
        ["Coupons per order", number(settings.couponsPerOrder)],
        ["Coupons per user", settings.maxCoupons === null ? "no limit" : number(settings.maxCoupons)],
        ["Idempotency-Keys", plural(settings.idempotencyHours, "hour")],
        ["Gift of a checkout", giftBookId ? h("a", { href: `#/book/${giftBookId}` }, gift?.name ?? giftBookId) : "none"],
      ])),
      Object.entries(LIMITS).map(([kind, [title, hint, names]]) => card(title, pairs(Object.entries(names).map(([name, label]) => {
        const limit = limitOf(settings, kind, name);
        return [label, limit === null ? UNLIMITED[name] ?? "no limit" : number(limit)];
      })), h("p", { class: "hint" }, hint))));
  }
  paint();
  fill(main, head("Settings", "They apply to all later requests.",
    h("button", { type: "button", class: "primary", onclick: () => change().catch(tell) }, "Change")), place);
}
