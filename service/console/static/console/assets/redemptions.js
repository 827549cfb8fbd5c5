// Redemptions of all books, and rolling them back.

import { at, named, post } from "./api.js";
import { ask, badge, code, field, fill, h, head, inZone, input, listing, local, money, order, plural, select, sum, tell, toast, user, when } from "./dom.js";

const AT_ONCE = 4;
const BOOKS = 200; // the newest, to choose from

// What a card took off an order is a payment, not a discount.
export const isPaidByCard = ({ balanceAfter }) => balanceAfter !== null;

// Of a book, or of all: then each row says what its amount is.
export function redemptionColumns(book = null) {
  const amount = ({ discountAmount, currency }) => money(discountAmount, currency);
  const kind = (row) => h("div", { class: "hint" }, isPaidByCard(row) ? "paid by card" : "discount");
  return [
    { name: "When", of: (row) => when(row.redeemedAt) },
    { name: "Code", class: "long", of: (row) => code(row.code) },
    { name: "User", class: "long", of: (row) => user(row.userId) },
    { name: "Order", class: "long", of: (row) => order(row.orderId) },
    { name: "Value", number: true, of: (row) => money(row.orderValue, row.currency) },
    book ? { name: book.discount?.type === "balance" ? "Paid by card" : "Discount", number: true, of: amount }
      : { name: "Amount", number: true, of: (row) => [amount(row), kind(row)] },
    { name: "Status", of: (row) => (row.rolledBackAt ? badge("rolled back") : badge("active")) },
  ];
}

// Confirm with the number of redemptions, then roll back a few at a time. Returns whether all succeeded.
export async function rollBack(rows) {
  const reason = input({ name: "reason", maxlength: 255 });
  const restore = input({ name: "restore", type: "checkbox", checked: true });
  const total = (some) => sum(some.map(({ discountAmount, currency }) => ({ amount: discountAmount, currency })));
  const [byCard, byCoupon] = [rows.filter(isPaidByCard), rows.filter((row) => !isPaidByCard(row))];
  const totals = [
    byCoupon.length > 0 && `discounts of ${total(byCoupon)}`, byCard.length > 0 && `payments by card of ${total(byCard)}`,
  ].filter(Boolean).join(" and ");
  const label = `Roll back ${plural(rows.length, "redemption")}`;
  const done = await ask(`${label}?`, [
    h("p", {}, `${plural(rows.length, "redemption")} of ${plural(new Set(rows.map((row) => row.code)).size, "code")} by ` +
      `${plural(new Set(rows.map((row) => row.userId)).size, "user")}, with ${totals} in total. This can't be undone.`),
    field("Reason", reason), field("Give the use back to code, user, book and order", restore),
  ], label, async () => {
    const refused = [];
    for (let from = 0; from < rows.length; from += AT_ONCE) {
      await Promise.all(rows.slice(from, from + AT_ONCE).map((row) =>
        post(`/v1/redemptions/${row.redemptionId}/rollback`, { reason: reason.value.trim() || null, restore: restore.checked })
          .catch((error) => error.code === "already_rolled_back" || refused.push(error))));
    }
    if (refused.length) throw refused[0];
  }, { danger: true });
  if (done) toast(`${plural(rows.length, "redemption")} rolled back.`);
  return done;
}

// The filters as a form, which opens the page with them; an order has its own page.
function filters(query, books) {
  const book = select([["", "Any book"], ...books.map(({ bookId, name }) => [bookId, name])], query.get("bookId") ?? "");
  const forUser = input({ name: "userId", maxlength: 100, value: query.get("userId") ?? "" });
  const forOrder = input({ name: "orderId", maxlength: 100 });
  const [since, until] = ["since", "until"].map((name) => input({ name, type: "datetime-local", step: 1, value: local(query.get(name)) }));
  const form = h("form", { class: "card form", role: "search", "aria-label": "Redemptions" },
    field("Book", book), field("User", forUser), field("Order", forOrder), field("From", since, inZone()), field("Until", until, inZone()),
    h("div", { class: "row end" }, h("button", { class: "primary" }, "Filter"), h("a", { class: "button", href: "#/redemptions" }, "Show all")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const utc = ({ value }) => (value ? new Date(value).toISOString() : null);
    location.hash = forOrder.value.trim()
      ? `#/order/${encodeURIComponent(forOrder.value.trim())}`
      : at("#/redemptions", { bookId: book.value, userId: forUser.value.trim(), since: utc(since), until: utc(until) });
  });
  return form;
}

export async function show(main, { query }, page) {
  const { items: books } = await page.get(at("/v1/books", { limit: BOOKS }));
  const chosen = query.get("bookId");
  if (chosen && !books.some(({ bookId }) => bookId === chosen)) books.push(await page.get(named("/v1/books/*", chosen)));
  const wanted = Object.fromEntries(["bookId", "userId", "since", "until"].map((name) => [name, query.get(name)]));
  const picked = new Map();
  const place = h("div");
  const back = h("button", { type: "button", class: "danger", disabled: true });
  const paint = () => {
    back.textContent = picked.size ? `Roll back ${plural(picked.size, "redemption")}` : "Roll back";
    back.disabled = picked.size === 0;
  };
  const again = () => {
    picked.clear();
    paint();
    return listing(place, "Redemptions", [pick, ...redemptionColumns()], (cursor) =>
      page.get(at("/console/data/redemptions", { limit: 50, cursor, ...wanted })), query.size ? "No redemptions match." : "No redemptions yet.");
  };
  const pick = { name: "Select", hidden: true, class: "pick", of: (row) => (row.rolledBackAt ? null : h("input", {
    type: "checkbox", "aria-label": `Select the redemption of ${row.code} by ${row.userId}`, checked: picked.has(row.redemptionId),
    onchange: (event) => { event.target.checked ? picked.set(row.redemptionId, row) : picked.delete(row.redemptionId); paint(); },
  })) };
  back.addEventListener("click", async () => {
    if (await rollBack([...picked.values()])) again().catch(tell);
  });
  fill(main,
    head("Redemptions", "Of all books, newest first.", back, h("button", { type: "button", onclick: () => again().catch(tell) }, "Refresh")),
    filters(query, books), place);
  await again();
}
