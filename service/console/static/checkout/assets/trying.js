// The demo's codes and what each shows. A click enters the code.

const CODES = [
  ["SUMMER-A", "20 % off, and a gift card"],
  ["WELCOME10", "10 % off, once per user"],
  ["FIVE-1", "5.00 USD off, for orders from 25.00 USD"],
  ["TIERED-1", "5 % from 50.00 USD, 10 % from 100.00 USD, 30.00 USD off from 200.00 USD"],
  ["BUY2GET1", "buy two, get one free"],
  ["LOCKED-1", "needs a lock, which this page takes"],
  ["FIRST-3", "for the first three orders: out_of_stock"],
  ["BIG-500", "for orders from 500.00 USD: order_value_too_low"],
  ["EURO-1", "in another currency: currency_mismatch"],
  ["ALICE-1", "assigned to alice: coupon_assigned_to_other"],
  ["OWNED-1", "not assigned yet: coupon_not_assigned"],
  ["EXPIRED-1", "expired"],
  ["EARLY-1", "not_started"],
  ["PAUSED-1", "its book is paused: book_inactive"],
  ["OFF-1", "switched off: coupon_inactive"],
  ["NO-SUCH-CODE", "coupon_not_found"],
];

export function offer(choose) {
  const place = document.getElementById("codes");
  for (const [code, what] of CODES) {
    const line = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = code;
    button.addEventListener("click", () => choose(code));
    line.append(button, ` ${what}`);
    place.append(line);
  }
}
