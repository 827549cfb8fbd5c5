// Requests to the API, and the messages of its refusals.

import { money, when } from "/console/assets/dom.js";

const ANSWER_TIMEOUT_MS = 15_000;

// Refusals of a code, which the page shows at its field.
export const OF_CODES = {
  coupon_not_found: "This code does not exist. Please check the spelling.",
  coupon_not_available: "This code can't be used.",
  coupon_inactive: "This code is switched off.",
  book_inactive: "This offer is paused.",
  not_started: "This code is not valid yet.",
  expired: "This code has expired.",
  coupon_not_assigned: "This code is only for the customer it is assigned to.",
  coupon_assigned_to_other: "This code is assigned to another customer.",
  coupon_locked: "Another customer is paying with this code now. Try again in a few minutes.",
  coupon_redeemed: "This code has already been redeemed.",
  coupon_exhausted: "This code is used up.",
  user_redemption_limit: "You have reached this offer's limit per customer.",
  out_of_stock: "This offer is sold out.",
  budget_exhausted: "This offer has given all the discount that it may give.",
  period_limit: "This offer is used up for now.",
  order_already_used: "This order has already used another coupon.",
  order_value_too_low: "The cart's value is too low for this code.",
  no_discount: "This code gives no discount on this cart.",
  currency_mismatch: "This code is for orders in another currency.",
  lock_lost: "The code is no longer held for you. Apply it again.",
  lock_required: "The code must be held for you first. Apply it again.",
};
// What the shop says in words of its own: the others are in the words of the refusal where it is for the shopper.
const WORDS = {
  ...OF_CODES,
  unauthenticated: "The API key is missing or invalid. Enter a key at the end of the page.",
  forbidden: "This API key can't be used here: it needs the scope “checkout”.",
  rate_limited: "Too many requests. Wait a moment, and try again.",
  recovering: "Coupons can't be used for a moment. Nothing was changed. Try again shortly.",
  behind: "The shop is very busy. Nothing was changed. Try again shortly.",
  keys_outdated: "A part of the shop is unavailable. Nothing was changed. Try again shortly.",
  unavailable: "A part of the shop is unavailable. Nothing was changed. Try again shortly.",
  outcome_unknown: "We don't know whether that worked; try again.",
  no_answer: "The server did not respond.",
  request_in_progress: "The payment of this order is still in progress.",
  idempotency_key_reused: "This order was already sent with another cart, and may be paid. Start a new order.",
};

const GENERAL = {
  caller: "The shop has a problem with this. Nothing that you can change would help.",
  retry: "A part of the shop is unavailable. Try again shortly.",
};

// What some refusals say in figures, if they have them.
const again = ({ renewsAt }) => renewsAt && `Try again from ${when(renewsAt).textContent}.`;
const FIGURES = {
  budget_exhausted: again,
  period_limit: again,
  not_started: ({ validFrom }) => validFrom && `It is valid from ${when(validFrom).textContent}.`,
  expired: ({ expiresAt }) => expiresAt && `It was valid until ${when(expiresAt).textContent}.`,
  user_redemption_limit: ({ maxRedemptionsPerUser }) => maxRedemptionsPerUser && `The limit is ${maxRedemptionsPerUser}.`,
  order_value_too_low: ({ minOrderValue, missing, currency }) =>
    missing && `It is for carts from ${money(minOrderValue, currency)}: ${money(missing, currency)} is missing.`,
  no_discount: ({ buy, get }) => buy && `For every ${buy} of one article that you buy, ${get} is free.`,
  currency_mismatch: ({ currency }) => currency && `It is for orders in ${currency}.`,
};

const inGeneral = (refusal) => (refusal.for === "shopper" ? refusal.detail : GENERAL[refusal.for]);

export const explain = (refusal) => [WORDS[refusal.code] ?? inGeneral(refusal), FIGURES[refusal.code]?.(refusal)].filter(Boolean).join(" ");

// After these it is unknown whether the order is paid: the same request is kept, to be sent again.
export const UNKNOWN = new Set(["no_answer", "outcome_unknown", "internal", "request_in_progress"]);
// These are rejected before a decision, and tell nothing about an earlier attempt.
export const UNDECIDED = new Set([401, 403, 408, 429, 503]);

// Random hexadecimal digits, for an order's id and its Idempotency-Key.
export function hex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// Returns { status, body, now (ms, the server's clock) }. The body of a refusal always has a `code`.
export async function post(key, path, body, headers = {}) {
  if (!/^[!-~]+$/.test(key)) return { status: 401, body: { code: "unauthenticated" } };
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}`, ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    const text = await response.text();
    const answer = { status: response.status, body: text ? JSON.parse(text) : null };
    answer.now = Date.parse(response.headers.get("Date")) || Date.now();
    return answer.status < 400 || answer.body?.code ? answer : { ...answer, body: { code: "no_answer" } };
  } catch {
    return { status: 0, body: { code: "no_answer" } };
  }
}
