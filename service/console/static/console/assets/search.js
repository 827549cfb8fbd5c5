// Search by name: opens a single match, or lists all matches.

import { at } from "./api.js";
import { fill, h, head } from "./dom.js";

const KINDS = {
  code: "Code", user: "User", order: "Order", redemption: "Redemption", key: "Request with this Idempotency-Key",
  request: "Redemptions within a second of this request", book: "Book", job: "Job",
  refused: "Refused request",
};

const MOST = 20; // as the service has it

function address({ kind, name, code }) {
  if (kind === "redemption") return `#/code/${encodeURIComponent(code)}?redemption=${name}`;
  if (kind === "job") return "#/jobs";
  return `#/${kind}/${encodeURIComponent(name)}`;
}

export async function show(main, { names: [text = ""] }, page) {
  const { matches } = await page.get(at("/console/data/search", { q: text }));
  if (matches.length === 1) return page.giveWay(address(matches[0]));
  fill(main, head(`Search: ${text}`), matches.length === 0
    ? h("div", { class: "card" }, h("p", {}, "Nothing found: no code, user, order, redemption, book or job has this name, no request this Idempotency-Key, and no refusal of the last hour this request id."),
        h("p", { class: "hint" }, "A book is found by a part of its name, a code by its beginning, in upper or lower case; other names must be complete. A request whose key, scope or address was refused is found by ", h("code", {}, "scrip requests"), "."))
    : h("ul", { class: "card" }, matches.map((match) => h("li", {}, h("a", { href: address(match) }, `${KINDS[match.kind]}: ${match.title ?? match.name}`)))),
    matches.length >= MOST && h("p", { class: "hint" }, `At most ${MOST} books and ${MOST} codes are listed. `, h("a", { href: at("#/books", { q: text }) }, "Search the books")));
}
