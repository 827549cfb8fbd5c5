// What gift cards are worth: what was issued, spent and closed of them, and what is outstanding, by book and day.

import { at, named } from "./api.js";
import { card, field, fileFormats, fileLink, fill, h, head, onChoice, select, sum, table, when } from "./dom.js";
import { Levels, Sums } from "./plot.js";
import { BOOKS, DAY_MS, offset, starts, tabs, thisMoment } from "./reports.js";

const PERIODS = {
  month: ["Last 30 days", 30], thisMonth: ["This month", null], lastMonth: ["Last month", null], quarter: ["Last 13 weeks", 91], year: ["Last 52 weeks", 364],
};
const KINDS = { issued: "Issued", credited: "Credited", spent: "Spent", returned: "Given back", closed: "Closed" };
const TAKEN = new Set(["spent", "closed"]);

const amountsOf = (rows, name) => rows.map((row) => ({ amount: row[name], currency: row.currency }));

// What the book had before its first day of the report.
const opening = ({ currency, outstanding, ...row }) => [outstanding, ...Object.keys(KINDS).map((kind) => (TAKEN.has(kind) ? row[kind] : `-${row[kind]}`))]
  .map((amount) => ({ amount, currency }));

// The begin of this month of a time zone, or of an earlier one.
function beginOf(monthsAgo, timeZone) {
  const [year, month] = new Date().toLocaleString("sv", { timeZone }).split("-").map(Number);
  const there = Date.UTC(year, month - 1 - monthsAgo, 1);
  return there - offset(there - offset(there, timeZone), timeZone);
}

function spanOf(period, timeZone) {
  const [, days] = PERIODS[period];
  if (days) return [Date.now() - (days - 1) * DAY_MS, Date.now()];
  return period === "lastMonth" ? [beginOf(1, timeZone), beginOf(0, timeZone)] : [beginOf(0, timeZone), Date.now()];
}

function choose(asked, cards) {
  const of = select([["", "All books of cards"], ...cards.map(({ bookId, name }) => [bookId, name])], asked.of, { name: "of" });
  const period = select(Object.entries(PERIODS).map(([key, [name]]) => [key, name]), asked.period, { name: "period" });
  for (const control of [of, period]) onChoice(control, () => { location.hash = at("#/liability", { of: of.value, period: period.value }); });
  return h("form", { class: "card form", "aria-label": "Report" }, field("Books", of), field("Time", period));
}

function facts(books) {
  const rows = [
    ["At the beginning", books.flatMap(([first]) => opening(first))],
    ...Object.entries(KINDS).map(([kind, name]) => [name, amountsOf(books.flat(), kind)]),
    ["Outstanding at the end", amountsOf(books.map((days) => days.at(-1)), "outstanding")],
  ];
  return h("dl", { class: "facts" }, rows.map(([name, amounts]) => h("div", {}, h("dt", {}, name), h("dd", { class: "amount" }, sum(amounts)))));
}

// A day without changes has no item: what was outstanding stays.
function charts({ items, ...report }) {
  const name = (ms) => new Date(ms).toLocaleString("en-GB", { timeZone: report.timeZone, day: "numeric", month: "short" });
  return [...Map.groupBy(items, ({ currency }) => currency)].flatMap(([currency, some]) => {
    const rows = Map.groupBy(some, ({ from }) => Date.parse(from));
    const owed = new Map();
    const days = starts(report, "day").map((ms) => {
      const changed = rows.get(ms) ?? [];
      for (const { bookId, outstanding } of changed) owed.set(bookId, Number(outstanding));
      const add = (amounts) => amounts.reduce((all, amount) => all + Number(amount), 0);
      return { at: ms, owed: add([...owed.values()]), issued: add(changed.map(({ issued }) => issued)), spent: add(changed.map(({ spent }) => spent)) };
    });
    const chart = (kind, title, lines) => {
      const plot = new kind(`${title} in ${currency}`, Object.values(lines).map(([text, tone]) => ({ name: text, tone })));
      plot.show(days.map((day) => ({ at: day.at, values: Object.keys(lines).map((key) => day[key]) })), Date.parse(report.to), name);
      return plot.element;
    };
    return [
      chart(Levels, "Outstanding", { owed: ["At the day's end", 1] }),
      chart(Sums, "Issued and spent", { issued: ["Issued", 1], spent: ["Spent", 4] }),
    ];
  });
}

function byBook(books, known) {
  const ended = ({ validUntil }) => validUntil && new Date(validUntil) <= Date.now() && h("div", { class: "hint" }, "ended ", when(validUntil));
  return table("Gift cards by book", [
    { name: "Book", class: "long", of: ([{ bookId }]) => [h("a", { href: `#/book/${bookId}` }, known.get(bookId).name), ended(known.get(bookId))] },
    { name: "At the beginning", number: true, of: ([first]) => sum(opening(first)) },
    ...Object.entries(KINDS).map(([kind, name]) => ({ name, number: true, of: (days) => sum(amountsOf(days, kind)) })),
    { name: "At the end", number: true, of: (days) => sum(amountsOf([days.at(-1)], "outstanding")) },
  ], books);
}

function results(report, books, known) {
  if (!report) return [h("p", { class: "card empty" }, "Too many days of too many books. Choose a shorter time, or one book.")];
  if (!books.length && ![...known.values()].some(isOfCards)) {
    return [card("No gift cards yet", h("p", {}, "Make a book of them: under ", h("a", { href: "#/books" }, "Books"),
      " press New book, choose the kind Gift card with a balance, and say the amount of each card. Then generate or upload its codes: each is a card."))];
  }
  if (!books.length) return [h("p", { class: "card empty" }, "No card was issued, used or outstanding in this time.")];
  return [
    facts(books),
    h("section", { class: "charts stack", "aria-label": "Charts" }, h("div", { class: "cards" }, charts(report)),
      h("p", { class: "hint" }, "Outstanding is what is on all cards at the end of a day, also what is held, and what is on cards that have expired: close them, and it is no more. Each change counts on its own day: what a redemption took stays spent there, also if it is rolled back later.")),
    card("By book", byBook(books, known)),
  ];
}

const isOfCards = ({ discount }) => discount?.type === "balance";

export async function show(main, { query }, page) {
  const period = query.get("period") in PERIODS ? query.get("period") : "month";
  const asked = { of: query.get("of") ?? "", period };
  const get = (more) => page.get(at("/v1/reports/liability", more));
  const [{ items: newest }, { timeZone, asOf }] = await Promise.all([
    page.get(at("/v1/books", { limit: BOOKS })), get({ ...thisMoment(), bookId: asked.of })]);
  const [from, to] = spanOf(period, timeZone).map((ms) => new Date(ms).toISOString());
  const wanted = { from, to, bookId: asked.of };
  const report = await get(wanted).catch((error) => (error.code === "invalid" ? null : Promise.reject(error)));
  const books = [...Map.groupBy(report?.items ?? [], ({ bookId }) => bookId).values()];
  const known = new Map(newest.map((book) => [book.bookId, book]));
  const older = new Set([...books.map(([{ bookId }]) => bookId), asked.of].filter((bookId) => bookId && !known.has(bookId)));
  for (const book of await Promise.all([...older].map((bookId) => page.get(named("/v1/books/*", bookId))))) known.set(book.bookId, book);
  fill(main,
    head("Gift cards", ["What was issued and spent, and what is outstanding, counted up to ", when(report?.asOf ?? asOf), ", by day of the time zone ",
      page.may("operate") ? h("a", { href: "#/settings" }, timeZone) : timeZone, "."],
      h("button", { type: "button", onclick: () => dispatchEvent(new Event("hashchange")) }, "Refresh")),
    tabs("liability"), choose(asked, [...known.values()].filter(isOfCards)), results(report, books, known),
    books.length > 0 && h("p", { class: "row" }, fileLink(at("/v1/reports/liability.csv", wanted), "Save the days (CSV)", { class: "button" }), fileFormats()),
  );
}
