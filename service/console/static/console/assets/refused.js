// A request that was refused within the last hour.

import { at } from "./api.js";
import { fill, h, head, number, table, when } from "./dom.js";

export async function show(main, { names: [name] }, page) {
  const { items, notStored } = await page.get(at("/v1/ops/requests", { requestId: name }));
  fill(main, head(name, "A refused request of the last hour."), h("div", { class: "card" }, table("Refusals", [
    { name: "When", of: (row) => when(row.at) },
    { name: "Request", class: "long", of: (row) => row.route },
    { name: "Status", number: true, of: (row) => row.status },
    { name: "Reason", of: (row) => h("a", { href: `/problems/${row.outcome}` }, row.outcome) },
    { name: "For", of: (row) => row.subject ?? "–" },
    { name: "Took", number: true, of: (row) => `${number(row.tookMs)} ms` },
  ], items, "Not refused within the last hour."),
  notStored > 0 && h("p", { class: "hint" }, `${number(notStored)} refusals of this hour were too many to store.`)));
}
