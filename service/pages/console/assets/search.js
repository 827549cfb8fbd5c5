// Search by name: opens a single match, or lists all matches.

import { at } from "./api.js";
import { fill, h, head } from "./dom.js";

const KINDS = {
  code: "A code", user: "A user", order: "An order", redemption: "A redemption", key: "A request under this Idempotency-Key",
  request: "Perhaps a request: what was redeemed within a second of it", book: "A book", job: "A job",
};

function address({ kind, name, code }) {
  if (kind === "redemption") return `#/code/${encodeURIComponent(code)}?redemption=${name}`;
  if (kind === "job") return "#/jobs";
  return `#/${kind}/${encodeURIComponent(name)}`;
}

export async function show(main, { names: [text = ""] }, page) {
  const { matches } = await page.get(at("/console/data/search", { q: text }));
  if (matches.length === 1) return page.giveWay(address(matches[0]));
  fill(main, head(`Search: ${text}`), matches.length === 0
    ? h("div", { class: "card" }, h("p", {}, "Nothing has this name: no code, user, order, redemption, book or job, and no request under such an Idempotency-Key."),
        h("p", { class: "hint" }, "Names are looked for whole; codes in any case. A book is found by a part of its name ",
          h("a", { href: at("#/books", { q: text }) }, "among the books"), "."))
    : h("ul", { class: "card" }, matches.map((match) => h("li", {}, h("a", { href: address(match) }, `${KINDS[match.kind]}: ${match.name}`)))));
}
