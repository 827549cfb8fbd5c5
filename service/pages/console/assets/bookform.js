// The form of a new or existing book.

import { patch, post } from "./api.js";
import { discountFields } from "./discount.js";
import { ask, field, fill, h, input, local, select, toast } from "./dom.js";

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
    const fields = {
      name: name.value.trim(), description: description.value.trim(), status: status.value,
      validFrom: time(from, was.validFrom), validUntil: time(until, was.validUntil),
      requireAssignment: assigned.checked, requireLock: locked.checked,
      tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean), codePattern: pattern.value.trim(), discount: readDiscount(),
    };
    for (const [key, control] of Object.entries(numbers)) fields[key] = whole(control);
    if (!book) return codes.value ? { ...fields, totalCodes: whole(codes) } : fields;
    return Object.fromEntries(Object.entries(fields).filter(([key, value]) => JSON.stringify(value) !== JSON.stringify(was[key] ?? null)));
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
