// The demo's codes and what each shows. A click enters the code.

const CODES = [
  ["SUMMER-A", "20 % off, and a gift card"],
  ["WELCOME10", "10 % off, once for each user"],
  ["FIVE-1", "5 off from 25"],
  ["TIERED-1", "the more the cheaper"],
  ["BUY2GET1", "three for two"],
  ["LOCKED-1", "must be locked first, which this page does"],
  ["FIRST-3", "for the first three orders alone: out_of_stock"],
  ["BIG-500", "needs a cart of 500: order_value_too_low"],
  ["EURO-1", "for another currency: currency_mismatch"],
  ["ALICE-1", "belongs to alice: coupon_assigned_to_other"],
  ["OWNED-1", "is nobody's yet: coupon_not_assigned"],
  ["EXPIRED-1", "expired"],
  ["EARLY-1", "not_started"],
  ["PAUSED-1", "its book is paused: book_inactive"],
  ["OFF-1", "is switched off: coupon_inactive"],
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
