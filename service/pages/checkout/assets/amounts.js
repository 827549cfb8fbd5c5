// Amounts are integers of cents, times are milliseconds. The API uses decimal strings.

export const CURRENCY = "USD";

export function cents(text) {
  const found = /^(\d{1,11})\.(\d\d)$/.exec(text);
  if (!found) throw new Error(`not an amount in ${CURRENCY}: ${text}`);
  return Number(found[1]) * 100 + Number(found[2]);
}

export function decimal(amount) {
  return `${Math.floor(amount / 100)}.${String(amount % 100).padStart(2, "0")}`;
}

export function dollars(amount) {
  return `$${decimal(amount)}`;
}

export function clock(ms) {
  const s = Math.ceil(ms / 1000);
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}
