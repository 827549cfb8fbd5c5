// Budgets and limits of uses of a book: their fields in its form, and what is spent of them.

import { field, h, input, money, select, sentence, when } from "./dom.js";
import { typedAmount } from "./typed.js";

const MOST = 4;
const PER = [["book", "of the book"], ["user", "of each user"]];
const PERIODS = { lifetime: "in all", day: "a day", month: "a month" };

export const boundText = (most, { per, period }) => `${most} ${Object.fromEntries(PER)[per]} ${PERIODS[period]}`;

const LABELS = {
  amount: { amount: "Budget", per: "Whose budget", period: "Period of the budget", row: "budget" },
  uses: { uses: "Uses", per: "Whose uses", period: "Period of the uses", row: "limit of uses" },
};

// Returns the fields of at most four bounds, and a function that reads them. most: the name of what is bounded.
export function boundFields(name, most, before, adding) {
  const labels = LABELS[most];
  const list = h("div", { class: "tiers" });
  const rows = [];
  const add = h("button", { type: "button", onclick: () => append({})[most].focus() }, adding);
  // Named as the API names them, so that its errors are shown beside them.
  const paint = () => {
    rows.forEach((row, place) => {
      for (const of of [most, "per", "period"]) row[of].name = `${name}[${place}].${of}`;
      row.element.setAttribute("aria-label", `${sentence(labels.row)} ${place + 1}`);
      row.drop.setAttribute("aria-label", `Remove ${labels.row} ${place + 1}`);
    });
    add.hidden = rows.length >= MOST;
  };
  function append(was) {
    const periods = Object.entries(PERIODS).filter(([period]) => most === "amount" || period !== "lifetime");
    const value = most === "amount" ? { inputmode: "decimal" } : { type: "number", min: 1 };
    const row = {
      [most]: input({ ...value, required: true, value: was[most] ?? "" }),
      per: select(PER, was.per ?? "book"), period: select(periods, was.period ?? "day"),
    };
    row.drop = h("button", { type: "button", onclick: () => {
      rows.splice(rows.indexOf(row), 1);
      row.element.remove();
      paint();
      add.focus();
    } }, "Remove");
    row.element = h("div", { class: "tier", role: "group" }, [most, "per", "period"].map((of) => field(labels[of], row[of])), row.drop);
    rows.push(row);
    list.append(row.element);
    paint();
    return row;
  }
  before.forEach(append);
  const read = (row) => ({ [most]: most === "uses" ? Number(row.uses.value) : typedAmount(row.amount), per: row.per.value, period: row.period.value });
  return [[list, add], () => rows.map(read)];
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
