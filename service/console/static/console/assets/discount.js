// A book's discount: its terms in words, and the part of the form that changes them.

import { field, fill, h, input, money, select } from "./dom.js";
import { typedAmount } from "./typed.js";

const TYPES = [["", "No discount"], ["percentage", "Percentage"], ["fixed", "Fixed amount"], ["tiered", "Tiers by order value"], ["buyXGetY", "Buy some, get some free"],
  ["balance", "Gift card with a balance"]];
const UNITS = [["percentage", "%"], ["fixed", "amount off"]];
const MOST_TIERS = 20;

const amount = (value) => (value == null ? "" : String(value));
const decimal = (name, value, required = true) => input({ name, inputmode: "decimal", required, value: amount(value) });

// The currency of a book's amounts: its discount's own, else the workspace's.
export const currencyOf = (terms, { currency }) => terms?.currency ?? currency;

// The terms in a session's workspace; at most so many tiers are listed.
export function describe(terms, session, most = MOST_TIERS) {
  if (!terms) return "no discount";
  const currency = currencyOf(terms, session);
  const off = ({ type, value }) => (type === "percentage" ? `${value} %` : `${money(value, currency)} off`);
  const more = [
    terms.minOrderValue && `for orders from ${money(terms.minOrderValue, currency)}`,
    terms.maxAmount && `at most ${money(terms.maxAmount, currency)}`,
  ].filter(Boolean);
  if (terms.type === "balance") return [`gift cards of ${money(terms.value, currency)}`, ...more].join(", ");
  if (terms.type === "buyXGetY") return [`${terms.get} free for every ${terms.buy} bought`, ...more].join(", ");
  if (terms.type !== "tiered") return [off(terms), ...more].join(", ");
  const tiers = terms.tiers.slice(0, most).map((tier) => `${off(tier)} from ${money(tier.from, currency)}`);
  const rest = terms.tiers.length - tiers.length;
  return [...tiers, rest > 0 && `${rest} more`, ...more].filter(Boolean).join(", ");
}

// One row for each tier. Returns the element, and a function that reads the rows.
function tierRows(tiers, currencyNow) {
  const list = h("div", { class: "tiers" });
  const rows = [];
  const add = h("button", { type: "button", onclick: () => append({ type: "percentage" }).from.focus() }, "Add a tier");
  // Named as the API names them, so that its errors are shown beside them.
  const paint = () => {
    rows.forEach((row, place) => {
      row.from.name = `discount.tiers[${place}].from`;
      row.value.name = `discount.tiers[${place}].value`;
      row.element.setAttribute("aria-label", `Tier ${place + 1}`);
      row.drop.setAttribute("aria-label", `Remove tier ${place + 1}`);
      row.drop.disabled = rows.length === 1;
    });
    add.disabled = rows.length === MOST_TIERS;
  };
  function append(tier) {
    const row = { from: decimal("", tier.from), value: decimal("", tier.value), type: select(UNITS, tier.type) };
    row.drop = h("button", { type: "button", onclick: () => {
      rows.splice(rows.indexOf(row), 1);
      row.element.remove();
      paint();
      add.focus();
    } }, "Remove");
    row.element = h("div", { class: "tier", role: "group" }, field(`From order value (${currencyNow()})`, row.from), field("Discount", row.value), field("Unit", row.type), row.drop);
    rows.push(row);
    list.append(row.element);
    paint();
    return row;
  }
  (tiers ?? [{ type: "percentage" }]).forEach(append);
  const read = () => rows.map(({ from, type, value }) => ({ from: typedAmount(from), type: type.value, value: typedAmount(value, type.value === "percentage") }));
  return [h("div", { class: "wide" }, list, h("p", {}, add)), read];
}

// Returns the fields, a function that reads the terms, and the control of their kind.
export function discountFields(discount, session) {
  const currency = input({ name: "discount.currency", required: true, maxlength: 3, value: currencyOf(discount, session) });
  const currencyNow = () => currency.value.trim().toUpperCase();
  const type = select(TYPES, discount?.type ?? "", { name: "discount.type" });
  const value = decimal("discount.value", discount?.value);
  const least = decimal("discount.minOrderValue", discount?.minOrderValue, false);
  const most = decimal("discount.maxAmount", discount?.maxAmount, false);
  const buy = input({ name: "discount.buy", type: "number", min: 1, required: true, value: amount(discount?.buy ?? 2) });
  const get = input({ name: "discount.get", type: "number", min: 1, required: true, value: amount(discount?.get ?? 1) });
  const [tiers, readTiers] = tierRows(discount?.tiers, currencyNow);
  const rest = h("div", { class: "form" });
  const paint = () => {
    const isCard = type.value === "balance";
    const bounds = [field(`Minimum order value (${currencyNow()})`, least), !isCard && field(`Maximum discount (${currencyNow()})`, most), field("Currency", currency, "ISO 4217, such as EUR.")];
    const own = { // made when it is wanted: two of them show the same control
      "": () => [],
      percentage: () => [field("Percent", value), bounds],
      fixed: () => [field(`Amount (${currencyNow()})`, value), bounds],
      tiered: () => [tiers, bounds],
      buyXGetY: () => [field("Buy", buy), field("Get free", get), bounds],
      balance: () => [field(`Amount of each card (${currencyNow()})`, value, "Of cards that are issued from now on."), bounds],
    }[type.value]();
    fill(rest, own);
  };
  type.addEventListener("change", paint);
  currency.addEventListener("input", () => {
    for (const label of rest.querySelectorAll("label")) label.textContent = label.textContent.replace(/\(.*\)$/, `(${currencyNow()})`);
  });
  paint();
  const read = () => {
    if (!type.value) return null;
    const fields = { type: type.value };
    if (discount?.currency || currencyNow() !== session.currency) fields.currency = currencyNow();
    if (least.value.trim()) fields.minOrderValue = typedAmount(least);
    if (most.value.trim() && type.value !== "balance") fields.maxAmount = typedAmount(most);
    if (type.value === "buyXGetY") return { ...fields, buy: Number(buy.value), get: Number(get.value) };
    if (type.value === "tiered") return { ...fields, tiers: readTiers() };
    return { ...fields, value: typedAmount(value, type.value === "percentage") };
  };
  return [h("fieldset", { class: "wide" }, h("legend", {}, "Discount"), h("div", { class: "form" }, field("Kind", type)), rest), read, type];
}
