// Amounts are integers of cents, times are milliseconds. The API uses decimal strings.

import { money } from "/console/assets/dom.js";

export const CURRENCIES = ["USD", "EUR", "GBP"];
let chosen = CURRENCIES[0];

export const currency = () => chosen;

export function choose(one) {
  chosen = one;
}

export function cents(text) {
  const match = /^(\d{1,11})\.(\d\d)$/.exec(text);
  if (!match) throw new Error(`not an amount in ${chosen}: ${text}`);
  return Number(match[1]) * 100 + Number(match[2]);
}

export function decimal(amount) {
  return `${Math.floor(amount / 100)}.${String(amount % 100).padStart(2, "0")}`;
}

// As the console shows an amount.
export const price = (amount) => money(decimal(amount), chosen);

export function clock(ms) {
  const s = Math.ceil(ms / 1000);
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}
