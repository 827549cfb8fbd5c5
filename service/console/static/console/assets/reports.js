// How it went: redemptions, their sums and users, and the way to them, beside another period or book.

import { at } from "./api.js";
import { card, duration, field, fileFormats, fileLink, fill, h, head, money, number, onChoice, select, table, when } from "./dom.js";
import { bar, Sums } from "./plot.js";

export const BOOKS = 200; // the newest, to choose from
const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
const PERIODS = {
  today: ["Today", "hour", null], yesterday: ["Yesterday", "hour", null], day: ["Last 24 hours", "hour", DAY_MS], week: ["Last 7 days", "day", 7 * DAY_MS], month: ["Last 30 days", "day", 30 * DAY_MS],
  quarter: ["Last 13 weeks", "week", 91 * DAY_MS], year: ["Last 52 weeks", "week", 364 * DAY_MS],
};
const STEPS_MS = { hour: HOUR_MS, day: DAY_MS, week: 7 * DAY_MS };
const FIGURES = ["redemptions", "orderValue", "discount", "paidByCard", "rolledBack", "newUsers", "returningUsers"];
const FUNNEL = { assigned: "Assigned", locked: "Held", released: "Released", redeemed: "Redeemed" };

// The reports, as parts of one.
export const tabs = (current) => h("nav", { class: "tabs", "aria-label": "Reports" }, [["reports", "Redemptions"], ["liability", "Gift cards"]].map(([path, name]) =>
  h("a", { href: `#/${path}`, "aria-current": path === current ? "page" : null }, name)));

// The difference of a time zone from UTC at a time, in ms.
export const offset = (ms, timeZone) => Date.parse(`${new Date(ms).toLocaleString("sv", { timeZone }).replace(" ", "T")}Z`) - Math.floor(ms / 1000) * 1000;

// The day of now, whose report has the time zone: by this clock, which may be ahead of the server's.
export const thisMoment = () => ({ from: new Date(Date.now() - 1).toISOString(), to: new Date().toISOString() });

// The beginnings of a report's intervals, in ms. A day of a change of the clock has 23 or 25 hours.
export function starts({ from, to, timeZone }, interval) {
  const made = [];
  for (let ms = Date.parse(from); ms < Date.parse(to);) {
    made.push(ms);
    const next = ms + STEPS_MS[interval];
    ms = interval === "hour" ? next : next + offset(ms, timeZone) - offset(next, timeZone);
  }
  return made;
}

// A report whose discounts are without what cards paid.
function separate({ items, ...report }) {
  const amounts = ({ discountAmount, balanceSpent }) => ({ discount: Number(discountAmount) - Number(balanceSpent), paidByCard: Number(balanceSpent) });
  return { ...report, items: items.map((item) => ({ ...item, ...amounts(item) })) };
}

// The figures of each interval, of one currency; counts of all currencies.
function byInterval(report, interval, currency) {
  const rows = Map.groupBy(report.items, ({ from }) => Date.parse(from));
  return starts(report, interval).map((ms) => ({ at: ms, ...add(rows.get(ms) ?? [], currency) }));
}

function add(items, currency) {
  const money = new Set(["orderValue", "discount", "paidByCard"]);
  return Object.fromEntries(FIGURES.map((name) => [name, items.reduce((sum, item) =>
    sum + (money.has(name) && item.currency !== currency ? 0 : Number(item[name])), 0)]));
}

// The currency with the most redemptions, and its digits.
function mainCurrency(items) {
  const counts = [...Map.groupBy(items.filter(({ currency }) => currency), ({ currency }) => currency)].map(([currency, some]) =>
    ({ currency, count: add(some).redemptions, digits: (some[0].orderValue.split(".")[1] ?? "").length }));
  return counts.sort((one, other) => other.count - one.count)[0] ?? { currency: null, digits: 2 };
}

function change(now, other, words) {
  const percent = other ? Math.round((100 * (now - other)) / other) : null;
  return percent === null ? words : `${percent > 0 ? "+" : percent < 0 ? "−" : "±"}${number(Math.abs(percent))} % (${words})`;
}

function facts(total, other, otherName, { currency, digits }, soldOut) {
  const amount = (value) => money(value.toFixed(digits), currency);
  const rows = [
    ["Redemptions", "redemptions", number], ["Order value", "orderValue", amount], ["Discount", "discount", amount],
    total.paidByCard > 0 && ["Paid by card", "paidByCard", amount], ["Rolled back", "rolledBack", number], ["New users", "newUsers", number],
  ].filter(Boolean).map(([name, key, write]) => [name, write(total[key]), other && change(total[key], other[key], `${write(other[key])} ${otherName}`)]);
  if (soldOut) rows.push(["Sold out", when(soldOut.soldOutAt), `${duration(soldOut.soldOutAfterMs)} after the first redemption`]);
  return h("dl", { class: "facts" }, rows.map(([name, value, more]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, more && h("small", {}, more)))));
}

// What became of the steps, of all intervals together. `unknown` are those that are not counted.
function funnel(items, unknown) {
  const sums = Object.fromEntries(Object.keys(FUNNEL).map((name) => [name, unknown.includes(name) ? null : items.reduce((sum, item) => sum + item[name], 0)]));
  const most = Math.max(1, ...Object.values(sums));
  return table("From assigned to redeemed", [
    { name: "Step", of: ([name]) => FUNNEL[name] },
    { name: "Share", class: "bars", of: ([, count]) => bar({ free: count ?? 0 }, most) },
    { name: "Count", number: true, of: ([, count]) => number(count) },
  ], Object.entries(sums));
}

function refusals(items) {
  const counts = {};
  for (const { refused } of items) for (const [code, count] of Object.entries(refused ?? {})) counts[code] = (counts[code] ?? 0) + count;
  const rows = Object.entries(counts).sort(([, one], [, other]) => other - one);
  return table("Refusals by reason", [
    { name: "Reason", of: ([code]) => h("a", { class: "code", href: `/problems/${code}` }, code) },
    { name: "Share", class: "bars", of: ([, count]) => bar({ no: count }, rows[0][1]) },
    { name: "Requests", number: true, of: ([, count]) => number(count) },
  ], rows, "No request was refused.");
}

function byBook(items, books) {
  const rows = [...Map.groupBy(items, ({ bookId, currency }) => `${bookId} ${currency}`)].map(([, some]) => {
    const digits = (some[0].orderValue.split(".")[1] ?? "").length;
    return { ...some[0], ...some.find(({ soldOutAt }) => soldOutAt), ...add(some, some[0].currency), digits };
  }).sort((one, other) => other.redemptions - one.redemptions);
  const amount = (name) => (row) => (row.currency ? money(row[name].toFixed(row.digits), row.currency) : "–");
  return table("Redemptions by book", [
    { name: "Book", class: "long", of: ({ bookId }) => h("a", { href: `#/book/${bookId}` }, books.find((book) => book.bookId === bookId)?.name ?? bookId) },
    { name: "Redemptions", number: true, of: ({ redemptions }) => number(redemptions) },
    { name: "Order value", number: true, of: amount("orderValue") },
    { name: "Discount", number: true, of: amount("discount") },
    rows.some(({ paidByCard }) => paidByCard > 0) && { name: "Paid by card", number: true, of: amount("paidByCard") },
    { name: "Rolled back", number: true, of: ({ rolledBack }) => number(rolledBack) },
    { name: "New users", number: true, of: ({ newUsers }) => number(newUsers) },
    { name: "Sold out after", number: true, of: ({ soldOutAfterMs }) => (soldOutAfterMs === null ? "–" : duration(soldOutAfterMs)) },
  ].filter(Boolean), rows, "No redemptions in this time.");
}

// What is asked for, as a form that opens the page with it.
function choose(asked, books) {
  const tags = [...new Set(books.flatMap((book) => book.tags))].sort();
  const options = [...books.map(({ bookId, name }) => [`book ${bookId}`, name]), ...tags.map((tag) => [`tag ${tag}`, `Tag: ${tag}`])];
  const of = select([["", "All books"], ...options], asked.of, { name: "of" });
  const period = select(Object.entries(PERIODS).map(([key, [name]]) => [key, name]), asked.period, { name: "period" });
  const beside = select([["before", "The period before"], ["", "Nothing"], ...options], asked.beside, { name: "beside" });
  const open = () => { location.hash = at("#/reports", { of: of.value, period: period.value, beside: beside.value || "none" }); };
  for (const control of [of, period, beside]) onChoice(control, open);
  return h("form", { class: "card form", "aria-label": "Report" }, field("Books", of), field("Time", period), field("Compared with", beside));
}

// The end of today or yesterday, its length, and what lies between it and the same hours of the day before: a day of a
// change of the clock has 23 or 25 hours.
function spanOf(period, { from, timeZone }) {
  const [begin, now] = [Date.parse(from), Date.now()];
  const day = DAY_MS + offset(begin - 1 - DAY_MS, timeZone) - offset(begin, timeZone); // yesterday's
  return period === "yesterday" ? [begin - 1, day, day] : [now, Math.ceil((now - begin) / HOUR_MS) * HOUR_MS, day];
}

const filter = (chosen) => (chosen.startsWith("tag ") ? { tag: chosen.slice(4) } : { bookId: chosen.slice(5) });

export async function show(main, { query }, page) {
  const { items: books } = await page.get(at("/v1/books", { limit: BOOKS }));
  const beside = query.get("beside") ?? "before";
  const asked = { of: query.get("of") ?? "", period: query.get("period") in PERIODS ? query.get("period") : "month", beside: beside === "none" ? "" : beside };
  const [, interval, usualMs] = PERIODS[asked.period];
  const sales = (more) => page.get(at("/v1/reports/redemptions", more)).then(separate);
  const isOver = asked.period === "yesterday";
  const [to, lengthMs, agoMs] = usualMs ? [Date.now(), usualMs, usualMs] : spanOf(asked.period, await sales(thisMoment()));
  // `from` is in the first interval, which may be the only one
  const time = (end) => ({ from: new Date(Math.min(end - lengthMs + STEPS_MS[interval], end - 1)).toISOString(), to: new Date(end).toISOString(), interval });
  const wanted = { ...time(to), ...filter(asked.of) };
  const compared = asked.beside === "before" ? { ...wanted, ...time(to - agoMs) } : asked.beside && { ...time(to), ...filter(asked.beside) };
  const [report, other, steps, grouped] = await Promise.all([
    sales(wanted), compared ? sales(compared) : null, page.get(at("/v1/reports/funnel", wanted)),
    sales({ ...wanted, groupBy: "book" }).catch((error) => (error.code === "invalid" ? null : Promise.reject(error))),
  ]);
  const ofSome = wanted.bookId || wanted.tag;
  const currency = mainCurrency(report.items);
  const isMixed = report.items.some(({ currency: one }) => one && one !== currency.currency);
  const rows = byInterval(report, interval, currency.currency);
  const others = other && byInterval(other, interval, currency.currency);
  const titleOf = (chosen) => (chosen.startsWith("tag ") ? chosen : books.find(({ bookId }) => `book ${bookId}` === chosen)?.name ?? "All books");
  const [ownName, otherName] = asked.beside === "before" ? ["This period", "Before"] : [titleOf(asked.of), titleOf(asked.beside)];
  const total = (all) => Object.fromEntries(FIGURES.map((name) => [name, all.reduce((sum, row) => sum + row[name], 0)]));
  const name = (ms) => new Date(ms).toLocaleString("en-GB", { timeZone: report.timeZone, ...(interval === "hour" ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" }) });
  const chart = (title, lines) => {
    const plot = new Sums(title, lines.map(({ name: text, tone }) => ({ name: text, tone })));
    plot.show(rows.map((row, place) => ({ at: row.at, values: lines.map(({ of, key }) => (of === others ? others[place]?.[key] ?? null : row[key])) })), Date.parse(report.to), name);
    return plot.element;
  };
  const pair = (title, key) => chart(title, [{ name: ownName, key }, ...(others ? [{ name: otherName, key, of: others, tone: 4 }] : [])]);
  fill(main,
    head("Reports", ["How it went, counted up to ", when(report.asOf), `, by ${interval} of the time zone `, page.may("operate") ? h("a", { href: "#/settings" }, report.timeZone) : report.timeZone, "."],
      h("button", { type: "button", onclick: () => dispatchEvent(new Event("hashchange")) }, "Refresh")),
    tabs("reports"), choose(asked, books),
    facts(total(rows), others && total(others), asked.beside === "before" ? "before" : `in ${otherName}`, currency, report.items.find(({ soldOutAt }) => soldOutAt)),
    h("section", { class: "charts stack", "aria-label": "Charts" }, h("div", { class: "cards" },
      pair("Redemptions", "redemptions"), pair(`Order value${currency.currency ? ` in ${currency.currency}` : ""}`, "orderValue"),
      pair(`Discount${currency.currency ? ` in ${currency.currency}` : ""}`, "discount"),
      rows.some(({ paidByCard }) => paidByCard > 0) && pair(`Paid by card${currency.currency ? ` in ${currency.currency}` : ""}`, "paidByCard"),
      chart("Users", [{ name: "New", key: "newUsers" }, { name: `Returning, of each ${interval}`, key: "returningUsers", tone: 4 }])),
      h("p", { class: "hint" }, `${isOver ? "" : `The last ${interval} is not over yet. `}A user is new in the ${interval} of the first redemption, for each book used then, even if it is rolled back.`,
        isMixed && ` Amounts above are those in ${currency.currency}; By book has the other currencies, too.`,
        interval !== "hour" && ` Each ${interval} before a change of the time zone keeps the former one until an operator runs scrip reports --repair.`)),
    h("div", { class: "halves" },
      card("From assigned to redeemed", funnel(steps.items, ofSome ? ["locked", "released"] : []), h("p", { class: "hint" }, "Holds and releases are requests of the whole workspace; of a book or tag only assignments and redemptions are known. Users in an uploaded file of codes are no assignments.")),
      card("Refusals by reason", ofSome ? h("p", { class: "empty" }, "Refusals are counted for all books together.") : refusals(steps.items))),
    card("By book", grouped ? byBook(grouped.items, books) : h("p", { class: "empty" }, "Too many books sold in this time. Choose a tag, or a shorter time.")),
    h("p", { class: "row" }, fileLink(at("/v1/reports/redemptions.csv", wanted), "Save the redemptions (CSV)", { class: "button" }),
      fileLink(at("/v1/reports/redemptions.csv", { ...wanted, groupBy: "book" }), "Save them by book (CSV)", { class: "button" }),
      fileLink(at("/v1/reports/funnel.csv", wanted), "Save the steps (CSV)", { class: "button" }), fileFormats()),
  );
}
