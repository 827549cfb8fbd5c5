// A checkout in Node 20, without a library: hold the coupon while the customer pays, and redeem it once, whatever is lost.
// SCRIP_URL and SCRIP_KEY (scope `checkout`) are set; PAYMENT_URL, if set, stands for your payment provider.
// node checkout.mjs '{"orderId": "A-1", "userId": "ann", "code": "SUMMER-A", "value": "120.00"}'

const { SCRIP_URL, SCRIP_KEY, PAYMENT_URL } = process.env;

// Send a request until it has an answer, with the same key. Throws if the deadline passes: then the outcome is unknown.
async function send(path, key, body, deadline = Date.now() + 25_000) {
  for (let pause = 100; Date.now() < deadline; pause = Math.min(2 * pause, 2000)) {
    let wait = pause;
    try {
      const response = await fetch(SCRIP_URL + path, {
        method: "POST",
        headers: { Authorization: `Bearer ${SCRIP_KEY}`, "Content-Type": "application/json", "Idempotency-Key": key },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(5000),
      });
      const text = await response.text();
      const answer = text ? JSON.parse(text) : {};
      const again = [408, 429].includes(response.status) || response.status >= 500 || answer.code === "request_in_progress";
      if (!again) return { ok: response.ok, ...answer };
      wait = Math.max(pause, 1000 * (response.headers.get("Retry-After") ?? 0));
    } catch (error) {
      // no answer, or a part of one: it may have happened, and the repeat says so
    }
    if (Date.now() + wait > deadline) break;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
  throw new Error(`${path}: the outcome is unknown; repeat it with the key ${key}`);
}

async function pay(orderId, amount) {
  if (PAYMENT_URL) await fetch(PAYMENT_URL, { method: "POST", body: JSON.stringify({ orderId, amount }) });
}

// The path of a request about a code. Encode what a shopper typed: else "../redeem/B" would be another request.
const pathOf = (action, code) => `/v1/coupons/${action}/${encodeURIComponent(code)}`;

// What the customer reads of a refusal: why, where that is for the shopper; else something general.
const refuse = ({ code, for: turn, detail }, status = "refused") =>
  ({ status, code, message: turn === "shopper" ? detail : "The code can't be used now." });

export async function checkOut({ orderId, userId, code, value }) {
  // fetch takes "." and ".." out of a path, encoded or not. No code has a point.
  if (!/^[\w-]{4,64}$/.test(code)) return refuse({ code: "coupon_not_found", for: "shopper", detail: "No coupon has this code." });
  // The lock holds a use of the code and the price of the order, until it is redeemed or ends.
  const lock = await send(pathOf("lock", code), `lock-${orderId}`, { userId, orderId, orderValue: value });
  if (!lock.ok) return refuse(lock);
  const { lockToken } = lock;
  await pay(orderId, lock.finalAmount);
  const paid = { orderId, userId, code: lock.code, value, lockToken };
  // Store `paid` as unknown here: if this process ends now, a job goes on with `redeem`.
  return redeem(paid);
}

// Redeem a paid order once, however often this is done.
export async function redeem(paid) {
  const { orderId, userId, code, value, lockToken } = paid;
  const order = { orderValue: value, orderId, lockToken, userId };  // byte for byte what nightly.py sends
  const redemption = await send(pathOf("redeem", code), `redeem-${orderId}`, order).catch(() => null);
  if (!redemption) return { status: "unknown", ...paid };
  if (!redemption.ok) {  // nothing was redeemed: give the money back, and the code free
    await send(pathOf("unlock", code), `unlock-${orderId}`, { lockToken }).catch(() => null);
    return refuse(redemption, "refund");
  }
  return { status: "paid", amount: redemption.finalAmount };
}

if (process.argv[2]) console.log(JSON.stringify(await checkOut(JSON.parse(process.argv[2]))));
