// The list of books, and creating one.

import { at } from "./api.js";
import { bookBadge, fill, h, head, input, listing, number, select, when } from "./dom.js";
import { edit } from "./bookform.js";
import { describe } from "./discount.js";

const TIERS = 3; // in a row of the list

export async function show(main, { query }, page) {
  const place = h("div");
  const q = input({ type: "search", "aria-label": "A part of name or description", placeholder: "Name or description", value: query.get("q") ?? "" });
  const status = select([["", "Any status"], ["active", "Active"], ["inactive", "Paused"], ["archived", "Archived"]], query.get("status") ?? "", { "aria-label": "Status" });
  const form = h("form", { class: "row", role: "search", "aria-label": "Books" }, q, status, h("button", {}, "Filter"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = at("#/books", { q: q.value.trim(), status: status.value });
  });
  fill(main,
    head("Books", "A book is a set of coupons with the same rules.",
      h("button", { type: "button", class: "primary", onclick: () => edit(null, page.session) }, "New book")),
    form, place);
  await listing(place, "Books", [
    { name: "Name", class: "long", of: (book) => h("a", { href: `#/book/${book.bookId}` }, book.name) },
    { name: "Status", of: (book) => bookBadge(book) },
    { name: "Discount", class: "long", of: (book) => describe(book.discount, page.session, TIERS) },
    { name: "Redemptions per code", number: true, of: (book) => (book.maxRedemptionsPerCode === null ? "no limit" : number(book.maxRedemptionsPerCode)) },
    { name: "Tags", class: "long", of: (book) => book.tags.join(", ") },
    { name: "Valid until", of: (book) => when(book.validUntil) },
    { name: "Changed", of: (book) => when(book.updatedAt) },
  ], (cursor) => page.get(at("/v1/books", { limit: 50, cursor, q: query.get("q"), status: query.get("status") })), "No books match.");
}
