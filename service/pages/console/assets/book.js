// One book: its counts, settings, codes and redemptions, and adding codes.

import { at, patch, post } from "./api.js";
import { ask, badge, card, code, field, fill, h, head, input, listing, number, pairs, plural, select, tell, toast, user, when } from "./dom.js";
import { edit } from "./bookform.js";
import { discount } from "./books.js";
import { stock, stockWords } from "./plot.js";
import { redemptionColumns } from "./redemptions.js";
import { uploading } from "./adding.js";
import { changing } from "./bulk.js";
import { follow } from "./following.js";

const STATS_MS = 1000;
const TABS = [["codes", "Codes"], ["redemptions", "Redemptions"], ["notices", "Stock notices"], ["settings", "Settings"]];
const STATUSES = ["available", "assigned", "redeemed", "exhausted", "inactive", "expired"];

function counts(stats) {
  const rows = [["Codes", stats.codes], ["Free", stats.available], ["Held", stats.locked], ["Assigned", stats.assigned],
    ["Used up", stats.redeemed + stats.exhausted], ["Redemptions", stats.redemptions], ["Rolled back", stats.rolledBack], ["Users", stats.users]];
  return [
    h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, number(value)))),
      h("div", {}, h("dt", {}, "Discounts given"), h("dd", {}, stats.discountTotal))),
    h("div", { class: "hint" }, stockWords()), stock(stats),
  ];
}

async function pause(book, codes) {
  const pausing = book.status === "active";
  const text = pausing
    ? `Nobody can lock, assign or redeem any of its ${plural(codes, "code")} from then on. What was redeemed stays.`
    : `Its ${plural(codes, "code")} can be used again at once.`;
  await ask(pausing ? `Pause ${book.name}?` : `Let ${book.name} go on?`, h("p", {}, text), pausing ? "Pause the book" : "Go on", async () => {
    await patch(`/v1/books/${book.bookId}`, { status: pausing ? "inactive" : "active" });
    toast(pausing ? `${book.name} is paused.` : `${book.name} goes on.`);
    dispatchEvent(new Event("hashchange"));
  }, { danger: pausing });
}

async function generate(book, page, place) {
  const count = input({ type: "number", min: 1, max: 10_000_000, required: true });
  const pattern = input({ value: book.codePattern, class: "code" });
  const job = await ask(`Generate codes of ${book.name}`,
    [field("How many new codes", count), field("Pattern", pattern, "# is a random character of the book's.")],
    "Generate", () => post(`/v1/books/${book.bookId}/codes/generate`, { count: Number(count.value), codePattern: pattern.value.trim() }));
  if (job) follow(job, page, place);
}

const parts = {
  async codes(place, book, page, query, work) {
    const status = select([["", "Any status"], ...STATUSES.map((name) => [name, name])], query.get("status") ?? "", { "aria-label": "Status" });
    status.addEventListener("change", () => { location.hash = at(`#/book/${book.bookId}`, { status: status.value }); });
    const list = h("div");
    const again = () => parts.codes(place, book, page, query, work).catch(tell);
    const [pick, actions] = changing({ book, page, work, again, status: query.get("status") });
    fill(place, h("div", { class: "row spread" }, h("div", { class: "row" }, status), actions), list);
    await listing(list, "Codes", [
      pick,
      { name: "Code", of: (row) => code(row.code) },
      { name: "Status", of: (row) => badge(row.status) },
      { name: "User", of: (row) => user(row.userId ?? row.redeemedBy) },
      { name: "Uses", number: true, of: (row) => `${number(row.redemptions)} of ${row.maxRedemptions === null ? "any" : number(row.maxRedemptions)}` },
      { name: "Redeemed", of: (row) => when(row.redeemedAt) },
      { name: "Ends", of: (row) => when(row.expiresAt) },
    ], (cursor) => page.get(at(`/v1/books/${book.bookId}/codes`, { limit: 50, cursor, status: query.get("status") })), "No codes match.");
  },
  async redemptions(place, book, page) {
    await listing(place, "Redemptions", redemptionColumns(), (cursor) =>
      page.get(at(`/v1/books/${book.bookId}/redemptions`, { limit: 50, cursor })), "No redemptions yet.");
  },
  async notices(place, book, page) {
    await listing(place, "Stock notices", [
      { name: "When", of: (row) => when(row.at) },
      { name: "What", of: (row) => badge(row.event === "book.low_stock" ? "low" : "used up", row.event === "book.low_stock" ? "warn" : "bad") },
      { name: "Of", of: (row) => row.of },
      { name: "Left", number: true, of: (row) => number(row.left) },
    ], (cursor) => page.get(at(`/v1/books/${book.bookId}/notices`, { limit: 50, cursor })), "The stock has never been low.");
  },
  async settings(place, book) {
    const any = (value) => (value === null ? "no limit" : number(value));
    fill(place, card("Settings", pairs([
      ["Description", book.description || "–"], ["Discount", discount(book.discount)],
      ["Window", [when(book.validFrom), " to ", when(book.validUntil)]],
      ["Uses of a code", any(book.maxRedemptionsPerCode)], ["Redemptions of a user", any(book.maxRedemptionsPerUser)],
      ["Redemptions in all", any(book.maxRedemptions)], ["Codes of a user", any(book.maxCodesPerUser)],
      ["Requires", [book.requireAssignment && "assignment", book.requireLock && "a lock"].filter(Boolean).join(" and ") || "nothing"],
      ["A lock lasts", `${number(book.lockSeconds)} s, ${number(book.maxLockSeconds)} s with renewals`],
      ["Pattern of codes", h("span", { class: "code" }, book.codePattern)], ["Low stock below", any(book.lowStockThreshold)],
      ["Keep free", book.keepFree === null ? "–" : number(book.keepFree)],
      ["Gift of", book.giftBookId ? h("a", { href: `#/book/${book.giftBookId}` }, "this book") : "–"],
      ["Tags", book.tags.join(", ") || "–"], ["Id", h("span", { class: "code" }, book.bookId)],
      ["Made", when(book.createdAt)], ["Changed", when(book.updatedAt)],
    ])));
  },
};

export async function show(main, { names: [bookId, part = "codes"], query }, page) {
  const path = `/v1/books/${encodeURIComponent(bookId)}`;
  const [book, stats] = await Promise.all([page.get(path), page.get(`${path}/stats`)]);
  let now = stats;
  const numbers = h("div", { class: "card" }, counts(stats));
  const work = h("div");
  const place = h("div", { class: "card" });
  const status = book.status === "inactive" ? badge("paused", "warn") : badge(book.status);
  fill(main,
    head(book.name, [status, ` ${discount(book.discount)}`],
      h("button", { type: "button", onclick: () => generate(book, page, work).catch(tell) }, "Generate"),
      h("button", { type: "button", onclick: () => uploading(book, work, () => dispatchEvent(new Event("hashchange"))) }, "Upload"),
      h("button", { type: "button", onclick: () => edit(book) }, "Change"),
      book.status !== "archived" && h("button", { type: "button", onclick: () => pause(book, now.codes) }, book.status === "active" ? "Pause" : "Go on"),
      h("a", { class: "button", href: `${path}/codes.csv`, download: true }, "Export codes"),
      h("a", { class: "button", href: `${path}/redemptions.csv`, download: true }, "Export redemptions")),
    numbers, work,
    h("nav", { class: "tabs", "aria-label": "Of this book" }, TABS.map(([key, name]) =>
      h("a", { href: `#/book/${bookId}/${key}`, "aria-current": key === part ? "page" : null }, name))),
    place);
  if (query.get("job")) page.get(`/v1/jobs/${query.get("job")}`).then((job) => follow(job, page, work)).catch(tell);
  page.every(STATS_MS, async () => fill(numbers, counts((now = await page.get(`${path}/stats`)))));
  await (parts[part] ?? parts.codes)(place, book, page, query, work);
}
