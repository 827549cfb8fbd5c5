// Users that were created, with how many coupons they hold.

import { at } from "./api.js";
import { fill, h, head, input, listing, number, user, when } from "./dom.js";

export async function show(main, _, page) {
  const place = h("div");
  const id = input({ "aria-label": "A user's id", placeholder: "A user's id", required: true, maxlength: 100 });
  const form = h("form", { class: "row" }, id, h("button", {}, "Open"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = `#/user/${encodeURIComponent(id.value.trim())}`;
  });
  fill(main, head("Users", "Those that the merchant created; any other is found by its id, too."), form, place);
  await listing(place, "Users", [
    { name: "User", class: "long", of: (row) => user(row.userId) },
    { name: "Coupons", number: true, of: (row) => number(row.coupons) },
    { name: "At most", number: true, of: (row) => (row.maxCoupons === null ? "any" : number(row.maxCoupons)) },
    { name: "Created", of: (row) => when(row.createdAt) },
  ], (cursor) => page.get(at("/v1/users", { limit: 50, cursor })), "No user was created. Whoever locks or redeems needn't be.");
}
