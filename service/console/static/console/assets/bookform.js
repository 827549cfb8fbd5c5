// The form of a new or existing book.

import { patch, post } from "./api.js";
import { boundFields } from "./bounds.js";
import { discountFields } from "./discount.js";
import { ask, field, h, inZone, input, local, select, toast } from "./dom.js";
import { giftControl, listBooks } from "./settings.js";

// The settings that the table of settings has: {name, label, hint, isSwitch, default} (service/console/pages.py).
const SETTINGS = JSON.parse(document.querySelector('meta[name="scrip-book-settings"]').content);
const NEW = {
  name: "", description: "", status: "active", tags: [], discount: null, budgets: [], useLimits: [],
  ...Object.fromEntries(SETTINGS.map((setting) => [setting.name, setting.default])), maxRedemptionsPerCode: 1,
};

// As it is set, whatever its window and its codes are.
export const STATUSES = [["active", "In use"], ["inactive", "Paused"], ["archived", "Archived"]];

const whole = (control) => (control.value.trim() === "" ? null : Number(control.value));
const amount = (value) => (value == null ? "" : String(value));

// Create or change a book in a dialog, and open it. Sends only the changed fields.
export async function edit(book, page) {
  const was = book ?? NEW;
  const others = (await listBooks(page)).filter(({ bookId }) => bookId !== was.bookId);
  const name = input({ name: "name", required: true, maxlength: 255, value: was.name });
  const description = input({ name: "description", maxlength: 2000, value: was.description });
  const status = select(STATUSES, was.status, { name: "status" });
  const from = input({ name: "validFrom", type: "datetime-local", step: 1, value: local(was.validFrom) });
  const until = input({ name: "validUntil", type: "datetime-local", step: 1, value: local(was.validUntil) });
  const settings = Object.fromEntries(SETTINGS.map(({ name: key, isSwitch }) => [key, isSwitch
    ? input({ name: key, type: "checkbox", checked: was[key] })
    : input({ name: key, type: "number", min: 1, value: amount(was[key]) })]));
  const settingFields = (isSwitch) => SETTINGS.filter((one) => one.isSwitch === isSwitch).map(({ name: key, label, hint }) => {
    const shown = field(label, settings[key], hint);
    return isSwitch && hint ? h("div", { class: "wide" }, shown) : shown;
  });
  const ending = input({ name: "endLocks", type: "checkbox" });
  const tags = input({ name: "tags", value: was.tags.join(", ") });
  const pattern = input({ name: "codePattern", value: was.codePattern ?? "####-####-####", class: "code" });
  const codes = input({ name: "totalCodes", type: "number", min: 1, max: 10_000_000 });
  const [discount, readDiscount, kind] = discountFields(was.discount, page.session);
  const [budgets, readBudgets] = boundFields("budgets", "amount", was.budgets, "Add budget");
  const [limits, readLimits] = boundFields("useLimits", "uses", was.useLimits, "Add limit");
  const gift = giftControl(was, others);

  const read = () => {
    const time = (control, before) => (control.value === local(before) ? before ?? null : control.value ? new Date(control.value).toISOString() : null);
    const fields = {
      name: name.value.trim(), description: description.value.trim(), status: status.value,
      validFrom: time(from, was.validFrom), validUntil: time(until, was.validUntil),
      tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean), codePattern: pattern.value.trim(), discount: readDiscount(),
      giftBookId: gift.value || null, budgets: readBudgets(), useLimits: readLimits(),
    };
    for (const { name: key, isSwitch } of SETTINGS) fields[key] = isSwitch ? settings[key].checked : whole(settings[key]);
    if (kind.value === "balance") fields.maxRedemptionsPerCode = null;
    if (!book) return codes.value ? { ...fields, totalCodes: whole(codes) } : fields;
    const changed = Object.entries(fields).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(was[key] ?? null));
    return { ...Object.fromEntries(changed), ...(ending.checked && { endLocks: true }) };
  };
  const content = h("div", { class: "form" },
    h("div", { class: "wide" }, field("Name", name)), h("div", { class: "wide" }, field("Description", description)),
    discount,
    field("Status", status), field("Tags", tags, "Separated by commas."),
    field("Valid from", from, inZone()), field("Valid until", until, inZone()),
    settingFields(false),
    h("div", { class: "wide" }, h("span", {}, "Budgets"), h("div", { class: "hint" }, "The most that the discounts come to, in the book's currency."), budgets),
    h("div", { class: "wide" }, h("span", {}, "Limits of uses"), h("div", { class: "hint" }, "How often the codes are redeemed."), limits),
    settingFields(true),
    h("div", { class: "wide" }, field("Gift of a checkout", gift, "Each customer who pays with a code gets one of that book. None: as in Settings.")),
    field("Code pattern", pattern, "# is a random character."),
    book && h("div", { class: "wide" }, field("End all live locks now", ending, "Who holds a code loses it, also on the way to pay. Unticked, locks keep their use and their price until they end.")),
    !book && field("Codes to generate", codes, "Empty: none."));
  const perCode = settings.maxRedemptionsPerCode.closest(".field"); // a card has no such limit
  const paint = () => { perCode.hidden = kind.value === "balance"; };
  kind.addEventListener("change", paint);
  paint();
  await ask(book ? `Change ${book.name}` : "New book", content, book ? "Save" : "Create book", async () => {
    const made = book ? await patch(`/v1/books/${book.bookId}`, read()) : await post("/v1/books", read());
    toast(book ? `${made.name} is changed.` : `${made.name} is created.`);
    const there = `#/book/${made.bookId}${made.jobId ? `?job=${made.jobId}` : ""}`;
    if (location.hash === there) dispatchEvent(new Event("hashchange"));
    else location.hash = there;
  });
}
