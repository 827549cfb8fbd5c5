// Asking the API, and what its refusals mean for a shopper.

const ANSWER_TIMEOUT_MS = 15_000;

export const WORDS = {
  coupon_not_found: "There is no such code. Please check how it is spelt.",
  coupon_not_available: "This code can't be used.",
  coupon_inactive: "This code is switched off.",
  book_inactive: "This offer isn't running.",
  not_started: "This code can't be used yet.",
  expired: "This code's time is over.",
  coupon_not_assigned: "This code is only for those whom it was given to.",
  coupon_assigned_to_other: "This code belongs to somebody else.",
  coupon_locked: "Somebody else is paying with this code right now.",
  coupon_redeemed: "This code was used already.",
  coupon_exhausted: "This code was used as often as it could be.",
  user_redemption_limit: "You have used this offer as often as it allows.",
  out_of_stock: "This offer is used up.",
  order_already_used: "This order has used its coupon already.",
  order_value_too_low: "The cart is too small for this code.",
  currency_mismatch: "This code is for another currency.",
  lock_lost: "The code isn't held for you any more. Apply it again.",
  lock_required: "The code must be held for you first. Apply it again.",
  unauthenticated: "The API key is missing or wrong. Enter one at the end of the page.",
  forbidden: "This API key may not check out: it needs the scope “checkout”.",
  rate_limited: "Too many requests at once.",
  recovering: "Coupons are being checked and can't be used for a moment. Nothing was changed.",
  behind: "The shop is very busy. Nothing was changed.",
  unavailable: "A part of the shop can't be reached for a moment. Nothing was changed.",
  outcome_unknown: "The answer got lost.",
  no_answer: "There was no answer.",
  request_in_progress: "This order is still being paid.",
  idempotency_key_reused: "This order was sent before with another cart, and is paid perhaps. Start another one.",
};
// After these nobody knows yet whether the order is paid: it stays as it was sent, to be sent again.
export const UNKNOWN = new Set(["no_answer", "outcome_unknown", "internal", "request_in_progress"]);
// These were refused before anything was decided, and say nothing about an earlier try.
export const UNDECIDED = new Set([401, 403, 408, 429, 503]);

// What nobody else draws: for an order's id and its Idempotency-Key.
export function hex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// The answer as { status, body, now (ms, the server's clock) }; a refusal's body has a `code` in every case.
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
