// The cart: articles with their quantities, one row each. `order.quantities` has the quantity of each sku.

import { decimal, price } from "./amounts.js";

const ARTICLES = [
  { sku: "beans", name: "Coffee beans, 1 kg", cents: 3200, quantity: 3 },
  { sku: "cup", name: "Porcelain cup", cents: 1450, quantity: 2 },
  { sku: "filter", name: "Filter papers, 100", cents: 690, quantity: 1 },
];
const MOST = 99;
const rows = new Map();

export const firstQuantities = () => Object.fromEntries(ARTICLES.map(({ sku, quantity }) => [sku, quantity]));

export const valueOf = ({ quantities }) => ARTICLES.reduce((sum, { sku, cents }) => sum + cents * quantities[sku], 0);

// As the API takes them.
export function itemsOf({ quantities }) {
  const bought = ARTICLES.filter(({ sku }) => quantities[sku] > 0);
  return bought.map(({ sku, cents }) => ({ sku, quantity: quantities[sku], unitPrice: decimal(cents) }));
}

// The buttons are for the mouse: by keyboard the arrows change the input, and Tab leads to the next one.
function makeRow({ sku, name, cents }, { change, order, leave }) {
  const made = document.getElementById("article").content.cloneNode(true);
  const [input, fewer, more] = ["input", ".fewer", ".more"].map((selector) => made.querySelector(selector));
  const set = (quantity) => change(sku, Math.min(MOST, Math.max(0, Math.trunc(quantity) || 0)));
  made.querySelector(".name").textContent = name;
  input.setAttribute("aria-label", `How many: ${name}`);
  fewer.setAttribute("aria-label", `One less: ${name}`);
  more.setAttribute("aria-label", `One more: ${name}`);
  input.addEventListener("input", () => set(input.valueAsNumber));
  input.addEventListener("blur", leave);
  fewer.addEventListener("click", () => set(order().quantities[sku] - 1));
  more.addEventListener("click", () => set(order().quantities[sku] + 1));
  rows.set(sku, { input, fewer, more, price: made.querySelector(".price"), sum: made.querySelector(".sum") });
  document.getElementById("articles").append(made);
}

// `change(sku, quantity)` is called for each change, `leave()` after an input, `order()` gives the order.
export function makeRows(calls) {
  for (const article of ARTICLES) makeRow(article, calls);
}

export function renderRows({ quantities }, frozen) {
  for (const { sku, cents } of ARTICLES) {
    const row = rows.get(sku);
    const quantity = quantities[sku];
    if (document.activeElement !== row.input || frozen) row.input.value = quantity;
    row.input.readOnly = frozen;
    row.fewer.disabled = frozen || quantity === 0;
    row.more.disabled = frozen || quantity === MOST;
    row.price.textContent = `${price(cents)} each`;
    row.sum.textContent = price(cents * quantity);
  }
}
