// Budgets and limits of uses of a book: their fields in its form, and what is spent of them.

import { fill, h, input, money, select, when } from "./dom.js";

const MOST = 4;
const PER = [["book", "of the book"], ["user", "of each user"]];
const PERIODS = { lifetime: "in all", day: "a day", month: "a month" };

export const boundText = (most, { per, period }) => `${most} ${Object.fromEntries(PER)[per]} ${PERIODS[period]}`;

const LABELS = {
  amount: { amount: "Budget in currency", per: "Whose budget", period: "Period of the budget" },
  uses: { uses: "Uses", per: "Whose uses", period: "Period of the uses" },
};

// Returns the fields of at most four bounds, and a function that reads them. most: the name of what is bounded.
export function boundFields(name, most, before, adding) {
  const rows = h("div");
  const list = [];
  const add = h("button", { type: "button", onclick: () => put({}) }, adding);
  const paint = () => {
    fill(rows, list.map((one) => one.row));
    add.hidden = list.length >= MOST;
  };
  const put = (was) => {
    const label = (of) => ({ name: `${name}.${of}`, "aria-label": LABELS[most][of] });
    const periods = Object.entries(PERIODS).filter(([period]) => most === "amount" || period !== "lifetime");
    const value = most === "amount" ? { inputmode: "decimal" } : { type: "number", min: 1 };
    const amount = input({ ...label(most), ...value, required: true, value: was[most] ?? "" });
    const per = select(PER, was.per ?? "book", label("per"));
    const period = select(periods, was.period ?? "day", label("period"));
    const one = { read: () => ({ [most]: most === "uses" ? Number(amount.value) : amount.value.trim(), per: per.value, period: period.value }) };
    const remove = () => { list.splice(list.indexOf(one), 1); paint(); };
    one.row = h("div", { class: "row" }, amount, per, period, h("button", { type: "button", onclick: remove }, "Remove"));
    list.push(one);
    paint();
  };
  before.forEach(put);
  paint();
  return [[rows, add], () => list.map((one) => one.read())];
}

// The book's own budgets of now, each with a bar of what is spent and held.
export function budgetBars(budgets, currency) {
  return budgets.map((one) => {
    const used = Number(one.spent) + Number(one.held);
    const words = [`${money(one.spent, currency)} spent, ${money(one.held, currency)} held, ${money(one.left, currency)} left of `,
      boundText(money(one.amount, currency), one), one.renewsAt && [", renews ", when(one.renewsAt)]];
    return h("div", { class: "budget" }, h("div", { class: "hint" }, words),
      h("meter", { class: "wide", min: 0, max: Number(one.amount), high: Number(one.amount) * 0.8, value: used, "aria-label": "Budget" }));
  });
}
