// Created users with their numbers of coupons.

import { at } from "./api.js";
import { fill, h, head, input, listing, number, user, when } from "./dom.js";

export async function show(main, _, page) {
  const place = h("div");
  const id = input({ "aria-label": "User id", placeholder: "User id", required: true, maxlength: 100 });
  const form = h("form", { class: "row" }, id, h("button", {}, "Open"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = `#/user/${encodeURIComponent(id.value.trim())}`;
  });
  fill(main, head("Users", "Users that were created. Open any other user by its id."), form, place);
  await listing(place, "Users", [
    { name: "User", class: "long", of: (row) => user(row.userId) },
    { name: "Coupons", number: true, of: (row) => number(row.coupons) },
    { name: "Coupon limit", number: true, of: (row) => (row.maxCoupons === null ? "no limit" : number(row.maxCoupons)) },
    { name: "Created", of: (row) => when(row.createdAt) },
  ], (cursor) => page.get(at("/v1/users", { limit: 50, cursor })), "No users yet. Users can lock and redeem without being created.");
}
