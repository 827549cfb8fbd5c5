// The list of books, and creating one.

import { at } from "./api.js";
import { bookState, fill, h, head, input, listing, number, select, tell, when } from "./dom.js";
import { edit, STATUSES } from "./bookform.js";
import { describe } from "./discount.js";

const TIERS = 3; // in a row of the list

export async function show(main, { query }, page) {
  const place = h("div");
  const q = input({ type: "search", "aria-label": "A part of name or description", placeholder: "Name or description", value: query.get("q") ?? "" });
  const status = select([["", "All books"], ...STATUSES], query.get("status") ?? "", { "aria-label": "Status" });
  const form = h("form", { class: "row", role: "search", "aria-label": "Books" }, q, status, h("button", {}, "Filter"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = at("#/books", { q: q.value.trim(), status: status.value });
  });
  fill(main,
    head("Books", "A book is a set of coupons with the same rules.",
      h("button", { type: "button", class: "primary", onclick: () => edit(null, page).catch(tell) }, "New book")),
    form, place);
  await listing(place, "Books", [
    { name: "Name", class: "long", of: ({ bookId, name, tags }) => [
      h("a", { href: `#/book/${bookId}` }, name), tags.length > 0 && h("div", { class: "hint" }, tags.join(", "))] },
    { name: "Status", of: bookState },
    { name: "Discount", class: "long", of: (book) => describe(book.discount, page.session, TIERS) },
    { name: "Codes", number: true, of: ({ counts }) => number(counts?.codes) },
    { name: "Available", number: true, of: ({ counts }) => number(counts?.available) },
    { name: "Redemptions", number: true, of: ({ counts }) => number(counts?.redemptions) },
    { name: "Valid until", of: (book) => when(book.validUntil) },
  ], (cursor) => page.get(at("/console/data/books", { cursor, q: query.get("q"), status: query.get("status") })), "No books match.");
}
