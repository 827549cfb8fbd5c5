// One book: its counts, settings, codes and redemptions, and adding codes.

import { at, named, patch, post } from "./api.js";
import { ask, badge, bookState, code, field, fileFormats, fileLink, fill, h, head, input, listing, money, number, onChoice, pairs, plural, select, statusBadge, statusWord, tell, toast, user, when } from "./dom.js";
import { edit } from "./bookform.js";
import { boundText, budgetBars } from "./bounds.js";
import { describe } from "./discount.js";
import { stock, stockWords } from "./plot.js";
import { redemptionColumns } from "./redemptions.js";
import { uploading } from "./adding.js";
import { changing, STATUSES } from "./bulk.js";
import { follow } from "./following.js";

const STATS_MS = 1000;
const TABS = [["codes", "Codes"], ["redemptions", "Redemptions"], ["notices", "Stock notices"], ["settings", "Settings"]];

const USABLE = new Set(["available", "assigned"]);
const OUT_OF_USE = { paused: "its book is paused", archived: "its book is archived", "sold out": "its book is sold out", "not begun": "its book has not begun" };

const isOn = ({ status, validFrom, validUntil }) =>
  status !== "archived" && !(validFrom && new Date(validFrom) > Date.now()) && !(validUntil && new Date(validUntil) <= Date.now());

function counts({ counts: stats, currency, why }) {
  const rows = [["Codes", stats.codes], ["Available", stats.available], ["Held", stats.locked], ["Assigned", stats.assigned],
    ["Redeemed", stats.redeemed], ["Used up", stats.exhausted], ["Switched off", stats.inactive], stats.expired > 0 && ["Expired", stats.expired],
    ["Redemptions", stats.redemptions], ["Rolled back", stats.rolledBack], ["Users", stats.users]].filter(Boolean);
  return [
    h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, number(value)))),
      h("div", {}, h("dt", {}, stats.balance ? "Paid by card" : "Discounts given"), h("dd", { class: "amount" }, money(stats.discountTotal, currency)))),
    h("div", { class: "row spread hint" }, stockWords(), why), stock(stats), budgetBars(stats.budgets, currency),
  ];
}

async function pause(book, codes) {
  const pausing = book.status === "active";
  const text = pausing
    ? `Its ${plural(codes, "code")} can't be locked, assigned or redeemed until you resume it. Redemptions stay.`
    : `Its ${plural(codes, "code")} can be used again.`;
  await ask(pausing ? `Pause ${book.name}?` : `Resume ${book.name}?`, h("p", {}, text), pausing ? "Pause book" : "Resume book", async () => {
    await patch(`/v1/books/${book.bookId}`, { status: pausing ? "inactive" : "active" });
    toast(pausing ? `${book.name} is paused.` : `${book.name} is resumed.`);
    dispatchEvent(new Event("hashchange"));
  }, { danger: pausing });
}

// End a book now, for good unless it gets another end: its codes are expired then.
async function end(book, codes) {
  const text = `Its ${plural(codes, "code expires", "codes expire")} now: none can be locked, assigned or redeemed any more, nor one that is held. Redemptions stay. Another end under Change lets them be used again.`;
  await ask(`End ${book.name}?`, h("p", {}, text), "End book", async () => {
    await patch(`/v1/books/${book.bookId}`, { validUntil: `${new Date().toISOString().slice(0, 19)}Z` });
    toast(`${book.name} has ended.`);
    dispatchEvent(new Event("hashchange"));
  }, { danger: true });
}

async function generate(book, page, place, ended) {
  const count = input({ name: "count", type: "number", min: 1, max: 10_000_000, required: true });
  const pattern = input({ name: "codePattern", value: book.codePattern, class: "code" });
  const job = await ask(`Generate codes in ${book.name}`,
    [field("Number of codes", count), field("Code pattern", pattern, "# is a random character of the book's set.")],
    "Generate", () => post(`/v1/books/${book.bookId}/codes/generate`, { count: Number(count.value), codePattern: pattern.value.trim() }));
  if (job) follow(job, page, place, ended);
}

const parts = {
  async codes(place, book, page, query, work) {
    const status = select([["", "Any status"], ...STATUSES.map((name) => [name, statusWord(name)])], query.get("status") ?? "", { name: "status", "aria-label": "Status" });
    onChoice(status, () => { location.hash = at(`#/book/${book.bookId}`, { status: status.value }); });
    const list = h("div");
    const again = () => parts.codes(place, book, page, query, work).catch(tell);
    const [pick, actions] = changing({ book, page, list, work, again, status: query.get("status") });
    const hadFocus = place.contains(document.activeElement); // before a job changed the codes
    fill(place, h("div", { class: "row spread" }, h("div", { class: "row" }, status), actions), list);
    if (hadFocus) actions.querySelector("button").focus({ preventScroll: true });
    await listing(list, "Codes", [
      pick,
      { name: "Code", class: "long", of: (row) => code(row.code) },
      { name: "Status", of: ({ status: state }) => [statusBadge(state), OUT_OF_USE[book.state] && USABLE.has(state) && h("div", { class: "hint" }, OUT_OF_USE[book.state])] },
      { name: "User", class: "long", of: (row) => user(row.userId ?? row.redeemedBy) },
      { name: "Redemptions", number: true, of: (row) => `${number(row.redemptions)} of ${row.maxRedemptions === null ? "any" : number(row.maxRedemptions)}` },
      book.discount?.type === "balance" && { name: "Issued", number: true, of: (row) => money(row.amount, book.discount.currency) },
      { name: "Last redeemed", of: (row) => when(row.redeemedAt) },
      { name: "Expires", of: (row) => when(row.expiresAt) },
    ].filter(Boolean), (cursor) => page.get(at(`/v1/books/${book.bookId}/codes`, { limit: 50, cursor, status: query.get("status") })), query.get("status") ? "No codes match." : "No codes yet: generate or upload some.");
  },
  async redemptions(place, book, page) {
    await listing(place, "Redemptions", redemptionColumns(book), (cursor) =>
      page.get(at(`/v1/books/${book.bookId}/redemptions`, { limit: 50, cursor })), "No redemptions yet.");
  },
  async notices(place, book, page) {
    await listing(place, "Stock notices", [
      { name: "When", of: (row) => when(row.at) },
      { name: "Notice", of: (row) => badge(row.event === "book.low_stock" ? "low" : "none left", row.event === "book.low_stock" ? "warn" : "bad") },
      { name: "Left", number: true, of: (row) => `${number(row.left)} ${row.of}` },
    ], (cursor) => page.get(at(`/v1/books/${book.bookId}/notices`, { limit: 50, cursor })), "No stock notices yet.");
  },
  async settings(place, book, page) {
    const any = (value) => (value === null ? "no limit" : number(value));
    const gift = book.giftBookId && await page.get(`/v1/books/${book.giftBookId}`);
    fill(place, pairs([
      ["Description", book.description || "–"], ["Discount", describe(book.discount, page.session)],
      ["Valid from", when(book.validFrom)], ["Valid until", when(book.validUntil)],
      ["Redemptions per code", any(book.maxRedemptionsPerCode)], ["Redemptions per user", any(book.maxRedemptionsPerUser)],
      ["Redemptions in total", any(book.maxRedemptions)], ["Codes per user", any(book.maxCodesPerUser)],
      ["Budgets", book.budgets.map((one) => boundText(money(one.amount, book.currency), one)).join(", ") || "–"],
      ["Limits of uses", book.useLimits.map((one) => boundText(plural(one.uses, "use"), one)).join(", ") || "–"],
      ["Requires", [book.requireAssignment && "assignment", book.requireLock && "a lock"].filter(Boolean).join(" and ") || "nothing"],
      ["Lock", `${number(book.lockSeconds)} s, at most ${number(book.maxLockSeconds)} s with renewals`],
      ["Code pattern", h("span", { class: "code" }, book.codePattern)], ["Low stock below", book.lowStockThreshold === null ? "–" : number(book.lowStockThreshold)],
      ["Refill below", book.keepFree === null ? "–" : number(book.keepFree)],
      ["Gift of a checkout", gift ? h("a", { href: `#/book/${gift.bookId}` }, gift.name) : "–"],
      ["Tags", book.tags.join(", ") || "–"], ["Id", h("span", { class: "code" }, book.bookId)],
      ["Created", when(book.createdAt)], ["Changed", when(book.updatedAt)],
    ]));
  },
};

export async function show(main, { names: [bookId, part = "codes"], query }, page) {
  const path = `/v1/books/${encodeURIComponent(bookId)}`;
  const look = () => page.get(named("/console/data/books/*", bookId));
  const [book, first] = await Promise.all([page.get(path), look()]);
  book.state = first.state;
  book.currency = first.currency;
  let now = first;
  const state = h("span");
  const numbers = h("div", { class: "card" });
  const paint = () => {
    fill(state, badge(now.state));
    fill(numbers, now.counts ? counts(now) : h("p", { class: "soft" }, "Redis can't be reached: its counts are unknown."));
  };
  paint();
  const work = h("div");
  const place = h("div", { class: "card" });
  const load = () => (parts[part] ?? parts.codes)(place, book, page, query, work);
  fill(main,
    head(book.name, [state, ` ${describe(book.discount, page.session)} · `, book.validUntil ? ["valid until ", when(book.validUntil)] : "no end"],
      h("button", { type: "button", onclick: () => generate(book, page, work, () => load().catch(tell)).catch(tell) }, "Generate"),
      h("button", { type: "button", onclick: () => uploading(book, work, () => dispatchEvent(new Event("hashchange"))) }, "Upload"),
      h("button", { type: "button", onclick: () => edit(book, page).catch(tell) }, "Change"),
      book.status !== "archived" && h("button", { type: "button", onclick: () => pause(book, now.counts?.codes) }, book.status === "active" ? "Pause" : "Resume"),
      isOn(book) && h("button", { type: "button", onclick: () => end(book, now.counts?.codes) }, "End"),
      fileLink(`${path}/codes.csv`, "Export codes", { class: "button" }),
      fileLink(`${path}/redemptions.csv`, "Export redemptions", { class: "button" }), fileFormats()),
    numbers, work,
    h("nav", { class: "tabs", "aria-label": "Parts of the book" }, TABS.map(([key, name]) =>
      h("a", { href: `#/book/${bookId}/${key}`, "aria-current": key === part ? "page" : null }, name))),
    place);
  if (query.get("job")) page.get(`/v1/jobs/${query.get("job")}`).then((job) => follow(job, page, work, () => {
    history.replaceState(null, "", `#/book/${bookId}`); // its end is told once
    load().catch(tell);
  })).catch(tell);
  page.every(STATS_MS, async () => { now = await look(); paint(); });
  await load();
}
