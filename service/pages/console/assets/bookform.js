// The form of a new or existing book.

import { patch, post } from "./api.js";
import { ask, field, fill, h, input, local, select, toast } from "./dom.js";

const TYPES = [["", "No discount"], ["percentage", "Percentage"], ["fixed", "Fixed amount"], ["tiered", "Tiers by order value"], ["buyXGetY", "Buy some, get some free"]];
const NUMBERS = {
  maxRedemptionsPerCode: ["Uses of a code", "Empty: no limit."],
  maxRedemptionsPerUser: ["Redemptions of a user", "Empty: no limit."],
  maxRedemptions: ["Redemptions in all", "Empty: no limit."],
  maxCodesPerUser: ["Codes of a user", "Empty: no limit."],
  lockSeconds: ["Seconds of a lock"],
  maxLockSeconds: ["Seconds with all renewals"],
  lowStockThreshold: ["Low stock below", "Empty: no notices."],
  keepFree: ["Keep free", "Codes are generated below this."],
};
const NEW = { name: "", description: "", status: "active", maxRedemptionsPerCode: 1, lockSeconds: 300, maxLockSeconds: 3600, tags: [], discount: null };

const whole = (control) => (control.value.trim() === "" ? null : Number(control.value));
const amount = (value) => (value == null ? "" : String(value));

function discountFields(said) {
  const type = select(TYPES, said?.type ?? "");
  const value = input({ inputmode: "decimal", value: amount(said?.value) });
  const least = input({ inputmode: "decimal", value: amount(said?.minOrderValue) });
  const most = input({ inputmode: "decimal", value: amount(said?.maxAmount) });
  const buy = input({ type: "number", min: 1, value: amount(said?.buy ?? 2) });
  const get = input({ type: "number", min: 1, value: amount(said?.get ?? 1) });
  const tiers = h("textarea", { rows: 3, spellcheck: "false" });
  tiers.value = (said?.tiers ?? []).map((tier) => `${tier.from} ${tier.value}${tier.type === "percentage" ? "%" : ""}`).join("\n");
  const rest = h("div", { class: "form" });
  const paint = () => {
    const bounds = [field("From an order value of", least), field("At most", most)];
    const own = { // made when it is wanted: two of them show the same control
      "": () => [],
      percentage: () => [field("Percent", value), bounds],
      fixed: () => [field("Amount", value), bounds],
      tiered: () => [h("div", { class: "wide" }, field("Tiers", tiers, "A line each: from which value, how much off, as “100 10%” or “200 30”.")), bounds],
      buyXGetY: () => [field("Buy", buy), field("Get free", get), bounds],
    }[type.value]();
    fill(rest, own);
  };
  type.addEventListener("change", paint);
  paint();
  const read = () => {
    if (!type.value) return null;
    const found = { type: type.value };
    if (said?.currency) found.currency = said.currency;
    if (least.value.trim()) found.minOrderValue = least.value.trim();
    if (most.value.trim()) found.maxAmount = most.value.trim();
    if (type.value === "buyXGetY") return { ...found, buy: whole(buy), get: whole(get) };
    if (type.value !== "tiered") return { ...found, value: value.value.trim() };
    found.tiers = tiers.value.trim().split("\n").map((line) => {
      const [from, off = ""] = line.trim().split(/\s+/);
      return { from, type: off.endsWith("%") ? "percentage" : "fixed", value: off.replace("%", "") };
    });
    return found;
  };
  return [h("fieldset", { class: "wide" }, h("legend", {}, "Discount"), h("div", { class: "form" }, field("Kind", type)), rest), read];
}

// Create or change a book in a dialog, and open it. Sends only the changed fields.
export async function edit(book) {
  const was = book ?? NEW;
  const name = input({ required: true, maxlength: 255, value: was.name });
  const description = input({ maxlength: 2000, value: was.description });
  const status = select([["active", "Active"], ["inactive", "Paused"], ["archived", "Archived"]], was.status);
  const from = input({ type: "datetime-local", step: 1, value: local(was.validFrom) });
  const until = input({ type: "datetime-local", step: 1, value: local(was.validUntil) });
  const numbers = Object.fromEntries(Object.keys(NUMBERS).map((key) => [key, input({ type: "number", min: 1, value: amount(was[key]) })]));
  const assigned = input({ type: "checkbox", checked: was.requireAssignment ?? false });
  const locked = input({ type: "checkbox", checked: was.requireLock ?? false });
  const tags = input({ value: was.tags.join(", ") });
  const pattern = input({ value: was.codePattern ?? "####-####-####", class: "code" });
  const codes = input({ type: "number", min: 1, max: 10_000_000 });
  const [discount, readDiscount] = discountFields(was.discount);

  const read = () => {
    const time = (control, before) => (control.value === local(before) ? before ?? null : control.value ? new Date(control.value).toISOString() : null);
    const said = {
      name: name.value.trim(), description: description.value.trim(), status: status.value,
      validFrom: time(from, was.validFrom), validUntil: time(until, was.validUntil),
      requireAssignment: assigned.checked, requireLock: locked.checked,
      tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean), codePattern: pattern.value.trim(), discount: readDiscount(),
    };
    for (const [key, control] of Object.entries(numbers)) said[key] = whole(control);
    if (!book) return codes.value ? { ...said, totalCodes: whole(codes) } : said;
    return Object.fromEntries(Object.entries(said).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(was[key] ?? null)));
  };
  const content = h("div", { class: "form" },
    h("div", { class: "wide" }, field("Name", name)), h("div", { class: "wide" }, field("Description", description)),
    field("Status", status), field("Tags", tags, "With commas between."),
    field("Valid from", from), field("Valid until", until),
    discount,
    Object.entries(NUMBERS).map(([key, [label, hint]]) => field(label, numbers[key], hint)),
    field("Only for those it is assigned to", assigned), field("Must be locked first", locked),
    field("Pattern of codes", pattern, "# is a random character."),
    !book && field("Generate at once", codes, "So many codes; empty: none."));
  await ask(book ? `Change ${book.name}` : "New book", content, book ? "Save" : "Create the book", async () => {
    const made = book ? await patch(`/v1/books/${book.bookId}`, read()) : await post("/v1/books", read());
    toast(book ? `${made.name} is changed; it holds at once.` : `${made.name} is made.`);
    const there = `#/book/${made.bookId}${made.jobId ? `?job=${made.jobId}` : ""}`;
    if (location.hash === there) dispatchEvent(new Event("hashchange"));
    else location.hash = there;
  });
}
