// The mock checkout. An order has an id and an Idempotency-Key from its start, and both stay with this tab through a
// reload: whatever is clicked twice, and whichever answer is lost, an order is paid once. Money is integers of cents.

import { when } from "/console/assets/dom.js";
import { cents, choose, clock, CURRENCIES, currency, decimal, price } from "./amounts.js";
import { firstQuantities, itemsOf, makeRows, renderRows, valueOf } from "./cart.js";
import { explain, hex, OF_CODES, post, UNDECIDED, UNKNOWN } from "./asking.js";
import { show } from "./exchanges.js";
import { offer } from "./trying.js";

const TICK_MS = 500;
const STORED = "scrip.checkout";
const MAYBE_PAID = "We don't know yet whether you have paid. Try again: you pay only once.";

const at = (id) => document.getElementById(id);
const comesWith = document.querySelector('meta[name="scrip-key"]').content;
const cancels = comesWith && "demo_manage"; // a checkout's key may not roll back
let state = load();
let busy = false; // a request that the buttons wait for
let appraising = false; // a price is being asked for
let appraiseAgain = false; // the cart changed meanwhile
let retry = null;

// ---- state

function newOrder() {
  return {
    id: `web-${hex(8)}`,
    idempotencyKey: hex(16),
    quantities: firstQuantities(),
    code: "", // what stands in the box
    coupon: null, // what is held: { code, token, until (ms, this clock), worth (cents off the order, null: not known), isCard }
    card: null, // a card that is held beside a coupon, and pays what that leaves
    adding: false, // another code may be typed beside what is held
    sent: null, // the body of a payment whose outcome is not known, unchanged
    byCard: null, // what the card beside a coupon has paid already: { id, paid (cents), left }
    receipt: null,
  };
}

function load() {
  try {
    const stored = JSON.parse(sessionStorage.getItem(STORED));
    if (stored?.order?.id) return { ...stored, order: { ...newOrder(), ...stored.order } };
  } catch {
    // Invalid: start a new order.
  }
  return { key: null, user: "ann", order: newOrder() };
}

function save() {
  sessionStorage.setItem(STORED, JSON.stringify(state));
}

// ---- actions

function key() {
  return state.key ?? comesWith;
}

async function ask(path, body, headers, by = key()) {
  const answer = await post(by, path, body, headers);
  show({ path, body, headers, answer, key: [comesWith, cancels].includes(by) ? by : "$SCRIP_KEY" });
  return answer;
}

function orderFields(order) {
  return {
    userId: state.user,
    orderId: order.id,
    orderValue: decimal(valueOf(order)),
    currency: currency(),
    items: itemsOf(order),
  };
}

const heldOf = ({ coupon, card }) => [coupon, card].filter(Boolean);

// The fields of a request about a code. A card beside a coupon is for what that leaves, as one item: a repeated lock without
// items keeps those that it has, which are worth more.
function fieldsBeside(order, coupon) {
  const fields = orderFields(order);
  if (!coupon) return fields;
  const orderValue = decimal(valueOf(order) - coupon.worth);
  return { ...fields, orderValue, items: [{ sku: "rest", quantity: 1, unitPrice: orderValue }] };
}

const fieldsOf = (order, held) => fieldsBeside(order, held === order.card ? order.coupon : null);

// What is held no more.
function takeOff(order, held) {
  if (held === order.card) order.card = null;
  else Object.assign(order, { coupon: order.card, card: null });
}

// Run one action at a time; ignore clicks meanwhile. The clicked button keeps the focus if it is still visible.
async function run(action) {
  if (busy) return;
  const focused = document.activeElement;
  busy = true;
  say();
  render();
  try {
    await action();
  } finally {
    busy = false;
    save();
    render();
    const now = document.activeElement; // what was hidden just now loses the focus only later
    if (now === document.body || !now.checkVisibility()) [focused, at("pay"), at("again")].find((one) => one.checkVisibility()).focus();
  }
}

// A code in the box that is not applied: paying would charge the full price.
const isPending = ({ code, coupon, adding, sent }) => code.trim() !== "" && (coupon === null || adding) && sent === null;

// `tell` says a refusal.
async function apply(tell = refuse) {
  const order = state.order;
  const code = order.code.trim();
  if (!code) return say("Type a code first.");
  if (order.coupon?.code === code.toUpperCase()) return say(`${order.coupon.code} is applied already.`);
  const fields = fieldsBeside(order, order.coupon?.isCard ? null : order.coupon);
  const before = JSON.stringify(orderFields(order));
  const lock = await lockWithPrice(code, fields);
  if (!lock.coupon) return tell(lock);
  const { coupon } = lock;
  if (order.coupon?.isCard === coupon.isCard) {
    if (!(await release(order, [coupon]))) return;
    return say(`This order has a ${coupon.isCard ? "gift card" : "coupon"} already: remove it first.`, "bad");
  }
  const isFirst = order.coupon?.isCard; // it pays before the card that is held
  if (isFirst || !order.coupon) Object.assign(order, { coupon, card: order.coupon });
  else order.card = coupon;
  Object.assign(order, { code: "", adding: false });
  save();
  if (isFirst || before !== JSON.stringify(orderFields(order))) await appraise();
  if (heldOf(order).every(({ worth }) => worth !== null)) say("The code is held for you.", "good");
}

// Lock a code with the price of the cart; a repeat holds the price of another cart under the same token. Returns the answer,
// with the `coupon` unless it was refused.
async function lockWithPrice(code, fields) {
  // fetch takes "." and ".." out of a path, encoded or not. No code has a point.
  if (code.includes(".")) return { status: 404, body: { code: "coupon_not_found" } };
  const answer = await ask(`/v1/coupons/lock/${encodeURIComponent(code)}`, fields);
  if (answer.status !== 200 && answer.status !== 201) return answer;
  const { code: its, lockToken: token, discountAmount, amount } = answer.body;
  const worth = cents(discountAmount ?? "0.00");
  return { ...answer, coupon: { code: its, token, until: computeEnd(answer), worth, isCard: amount !== null } };
}

// Until when the answer holds the code, by this clock. The server's `Date` is up to a second or two behind its clock:
// rather too short than too long.
function computeEnd({ body, now }) {
  return Date.now() + Date.parse(body.expiresAt) - now - 2000;
}

// Lock again with the price of the current cart, until the cart has not changed while the requests ran.
async function appraise() {
  appraiseAgain = true;
  if (appraising) return;
  appraising = true;
  try {
    while (appraiseAgain && state.order.coupon) {
      appraiseAgain = false;
      const { order } = state;
      for (const held of heldOf(order)) held.worth = null;
      render();
      for (const held of heldOf(order)) {
        const lock = await lockWithPrice(held.code, fieldsOf(order, held));
        if (appraiseAgain || !heldOf(state.order).includes(held)) break;
        if (!lock.coupon) {
          refuse(lock, "", appraise);
          break;
        }
        Object.assign(held, lock.coupon);
        say();
      }
    }
  } finally {
    appraising = false;
    save();
    render();
  }
}

// A lock has expired: put the code back into the input. A card that is left is for another value then.
async function drop(order, held = order.coupon) {
  takeBack(order, held);
  if (order.coupon) await appraise();
  refuse({ status: 409, body: { code: "lock_lost" } });
}

function takeBack(order, held) {
  takeOff(order, held);
  Object.assign(order, { code: held.code, adding: true });
}

// Whether what was held is nobody's hold any more; otherwise says why not.
async function release(order, some = heldOf(order)) {
  for (const held of some) {
    const answer = await ask(`/v1/coupons/unlock/${encodeURIComponent(held.code)}`, { lockToken: held.token });
    if (answer.status !== 204 && answer.status !== 404) {
      refuse(answer);
      return false;
    }
    if (heldOf(order).includes(held)) takeOff(order, held);
  }
  return true;
}

async function remove(held) {
  const { order } = state;
  if (!(await release(order, [held]))) return;
  if (order.coupon?.isCard) await appraise();
  if (order.coupon?.worth !== null) say(`${held.code} is available again.`, "good");
}

async function leave() {
  if (!(await release(state.order))) return;
  begin();
  say("You left without buying. No code is held for you.", "good");
}

// Apply the code in the box instead of paying; the shopper sees the new total before the next click pays it.
async function applyFirst() {
  const { order } = state;
  const payWithout = () => {
    order.code = "";
    return pay();
  };
  const before = heldOf(order);
  await apply((answer) => refuse(answer, "You have not paid.", payWithout, "Pay without the code"));
  const added = heldOf(order).find((held) => !before.includes(held));
  if (added?.worth != null) say(`${added.code} is applied: ${added.isCard ? "it pays" : "you save"} ${price(added.worth)}. Press Pay to buy.`, "good");
}

async function pay() {
  const order = state.order;
  if (isPending(order)) return applyFirst();
  const sentBefore = order.sent !== null;
  const coupon = order.coupon ? { code: order.coupon.code, lockToken: order.coupon.token } : {};
  order.sent ??= JSON.stringify({ ...orderFields(order), ...coupon });
  save();
  const isUnknown = ({ status, body }) => UNKNOWN.has(body.code) || (sentBefore && UNDECIDED.has(status));
  if (order.card && !order.byCard && !(await payByCard(order, isUnknown))) return;
  const answer = await ask("/v1/checkout", order.sent, { "Idempotency-Key": order.idempotencyKey });
  if (answer.status === 200 || answer.status === 201) return thank(order, answer.body);
  const { code } = answer.body;
  if (isUnknown(answer)) return refuse(answer, MAYBE_PAID);
  const hasPaid = order.byCard !== null;
  if (hasPaid && !(await giveBack(order))) return;
  order.sent = null;
  if (code === "lock_lost" && order.coupon) return drop(order);
  const again = code === "order_already_used" ? "this shop takes one code for an order" : "apply it again";
  const unpaid = `You have not paid.${hasPaid ? ` Your gift card has its money back: ${again}.` : ""}`;
  refuse(answer, code === "idempotency_key_reused" ? "" : unpaid);
}

// Redeem the card beside a coupon before the coupon: its redemption can be rolled back alone, a checkout has a gift, too.
// Whether it has paid; otherwise says why not.
async function payByCard(order, isUnknown) {
  const { card, idempotencyKey } = order;
  const body = { ...fieldsOf(order, card), lockToken: card.token };
  const answer = await ask(`/v1/coupons/redeem/${encodeURIComponent(card.code)}`, body, { "Idempotency-Key": `${idempotencyKey}-card` });
  if (answer.status === 200 || answer.status === 201) {
    const { redemptionId: id, discountAmount, balanceAfter: left } = answer.body;
    order.byCard = { id, paid: cents(discountAmount), left };
    save();
    return true;
  }
  if (isUnknown(answer)) refuse(answer, MAYBE_PAID);
  else {
    order.sent = null;
    if (answer.body.code === "lock_lost") await drop(order, card);
    else refuse(answer, "You have not paid.");
  }
  return false;
}

// The coupon was refused after the card has paid: roll the card's redemption back. What is paid next has another key, as a
// repeat is `already_rolled_back`. Whether it is done; otherwise the payment stays as it is, to be tried again.
async function giveBack(order) {
  const { byCard, card, idempotencyKey } = order;
  const headers = { "Idempotency-Key": `${idempotencyKey}-back` };
  const answer = await ask(`/v1/redemptions/${byCard.id}/rollback`, { reason: "The coupon was refused." }, headers, state.key ?? cancels);
  if (answer.status !== 200 && answer.body.code !== "already_rolled_back") {
    const more = `Your gift card has paid ${price(byCard.paid)}, and not got it back yet. Try again.`;
    if (answer.status === 403) say(`This API key can't give it back: it needs the scope “manage”. ${more}`, "bad", "forbidden");
    else refuse(answer, more);
    return false;
  }
  Object.assign(order, { byCard: null, idempotencyKey: hex(16) });
  takeBack(order, card);
  return true;
}

// The card is declined, says the shop: what is held stays this customer's, for as long again where that may be.
async function decline() {
  const all = heldOf(state.order);
  for (const held of all) {
    const answer = await ask(`/v1/coupons/extend/${encodeURIComponent(held.code)}`, { lockToken: held.token });
    if (answer.body?.code === "lock_lost") return drop(state.order, held);
    if (answer.status === 200) held.until = computeEnd(answer);
    else if (answer.body?.code !== "lock_ceiling") return refuse(answer);
  }
  const still = ["", ", and the code is still held for you", ", and both codes are still held for you"][all.length];
  say(`Your card was declined. You have not paid${still}.`, "bad");
}

function thank(order, { redemption, gift, finalAmount }) {
  const { card, byCard } = order;
  order.receipt = {
    code: redemption?.code ?? null,
    card: byCard && { code: card.code, paid: byCard.paid },
    worth: redemption?.discountAmount ?? "0.00", // of `code`
    left: (byCard ?? { left: redemption?.balanceAfter ?? null }).left, // on a card
    total: decimal(cents(finalAmount) - (byCard?.paid ?? 0)),
    gift: gift && { code: gift.code, until: gift.expiresAt, worth: null /* cents */, isCard: false },
  };
  Object.assign(order, { sent: null, coupon: null, card: null, byCard: null });
  save();
  render();
  at("receipt-title").focus();
  if (gift) appraiseGift(order);
}

// Request what the gift card takes off another order of the same cart.
async function appraiseGift(order) {
  const { gift } = order.receipt;
  const { orderId: _, ...cart } = orderFields(order);
  const { status, body } = await ask("/v1/coupons/validate", { code: gift.code, ...cart });
  if (status !== 200 || body.discountAmount === null) return;
  gift.worth = cents(body.discountAmount);
  gift.isCard = Boolean(body.coupon?.balance);
  save();
  render();
}

function begin(code = "") {
  state.order = { ...newOrder(), code };
  save();
  say();
  render();
  at("cart-title").focus();
}

async function cancel() {
  const { order } = state;
  const path = `/v1/orders/${encodeURIComponent(order.id)}/rollback`;
  const answer = await ask(path, { reason: "cancelled" }, { "Idempotency-Key": `${order.id}-rollback` }, state.key ?? cancels);
  if (answer.status === 403) return say("This API key can't cancel an order: it needs the scope “manage”.", "bad", "forbidden");
  if (answer.status !== 200) return refuse(answer, "", cancel);
  Object.assign(order.receipt, { gift: null, cancelled: true });
  say(`The order is cancelled: ${codesOf(order.receipt)} can be used again.`, "good");
}

async function copy() {
  const { code } = state.order.receipt.gift;
  try {
    await navigator.clipboard.writeText(code);
    say(`${code} is copied.`, "good");
  } catch {
    getSelection().selectAllChildren(at("gift-code"));
    say("The code is selected: copy it with your keyboard.");
  }
}

// ---- rendering

// What is subtracted, with its sign.
const lessOf = (amount) => (amount ? `−${price(amount)}` : price(0));
const codesOf = ({ code, card }) => [code, card?.code].filter(Boolean).join(" and ") || "none";

// What a click on a button of its own can do again needs no `again`.
function say(text = "", kind = "", code = "", again = null, label = "Try again") {
  retry = again;
  at("retry").textContent = label;
  at("message").dataset.kind = kind;
  const isOfCode = code in OF_CODES;
  if (isOfCode) at("code-form").after(at("message"));
  else at("requests").before(at("message"));
  at("code").setAttribute("aria-invalid", String(isOfCode));
  at("message-text").textContent = text;
  if (code) {
    const small = document.createElement("code");
    small.textContent = code;
    at("message-text").append(" ", small);
  }
  at("retry").hidden = again === null;
}

function refuse(answer, more = "", again = null, label) {
  say([explain(answer.body), more].filter(Boolean).join(" "), "bad", answer.body.code, again, label);
  if (answer.status === 401 || answer.status === 403) at("key-box").open = true;
}

function render() {
  const { order } = state;
  const { coupon, card, receipt, sent } = order;
  at("shop").hidden = receipt !== null;
  at("receipt").hidden = receipt === null;
  at("order").textContent = order.id;
  if (receipt) return renderReceipt(order.id, receipt);

  const frozen = busy || sent !== null;
  renderRows(order, frozen);
  at("currency").value = currency();
  at("currency").disabled = frozen || coupon !== null;
  at("user").value = state.user;
  at("user").readOnly = frozen || coupon !== null;
  at("code").value = order.code;
  at("code").readOnly = frozen;
  at("code-form").hidden = coupon !== null && (card !== null || !order.adding);
  at("demo-codes").hidden = comesWith === "" || coupon !== null;
  at("apply").disabled = frozen;
  at("add").hidden = coupon === null || card !== null || order.adding;
  at("add").disabled = frozen;
  at("add").textContent = coupon?.isCard ? "Add a coupon" : "Add a gift card";
  for (const [name, held] of [["held", coupon], ["held-card", card]]) {
    at(name).hidden = held === null;
    if (held) at(`${name}-code`).textContent = held.code;
  }
  at("remove").disabled = at("remove-card").disabled = frozen;

  const value = valueOf(order);
  const [worth, byCard] = [coupon, card].map((held) => (held ? held.worth : 0));
  const total = worth === null || byCard === null ? null : value - worth - byCard;
  const less = (amount) => (amount === null ? "…" : lessOf(amount));
  at("saving").textContent = coupon?.isCard ? "Payment by gift card" : "Discount";
  at("value").textContent = price(value);
  at("discount").textContent = less(worth);
  at("by-card-of").hidden = at("by-card").hidden = card === null;
  at("by-card").textContent = less(byCard);
  at("total").textContent = total === null ? "…" : price(total);
  at("pay").disabled = busy || (sent === null && (appraising || total === null || value === 0));
  at("pay").textContent = sent !== null ? "Try again" : total === null || isPending(order) ? "Pay" : `Pay ${price(total)}`;
  at("leave").disabled = at("decline").disabled = frozen;
  at("retry").disabled = busy;
  tick();
}

function renderReceipt(id, receipt) {
  const { code, card, worth, left, total, gift, cancelled } = receipt;
  at("receipt-title").textContent = cancelled ? "Your order is cancelled" : "Thank you";
  at("cancel").hidden = code === null || cancelled === true;
  at("cancel").disabled = busy;
  at("receipt-order").textContent = id;
  at("receipt-code").textContent = codesOf(receipt);
  at("receipt-saving").textContent = left !== null && !card ? "Paid by gift card" : "Discount";
  at("receipt-discount").textContent = lessOf(cents(worth));
  at("receipt-by-card-of").hidden = at("receipt-by-card").hidden = !card;
  if (card) at("receipt-by-card").textContent = lessOf(card.paid);
  at("receipt-left-of").hidden = at("receipt-left").hidden = left === null || cancelled === true;
  if (left !== null) at("receipt-left").textContent = price(cents(left));
  at("receipt-paid").textContent = cancelled ? "Paid back" : "Paid";
  at("receipt-total").textContent = price(cents(total));
  at("gift").hidden = at("use-gift").hidden = !gift;
  if (!gift) return;
  at("gift-code").textContent = gift.code;
  at("gift-worth").textContent = gift.worth ? `It ${gift.isCard ? `pays ${price(gift.worth)} of` : `takes ${price(gift.worth)} off`} an order like this one.` : "";
  at("gift-end").replaceChildren(...(gift.until ? ["Good until ", when(gift.until), "."] : []));
}

function tick() {
  const { order } = state;
  const left = ({ until }) => Math.max(0, until - Date.now());
  if (order.coupon) at("held-time").textContent = clock(left(order.coupon));
  if (order.card) at("held-card-time").textContent = clock(left(order.card));
  const ended = heldOf(order).find((held) => left(held) === 0);
  if (!ended || busy || appraising || order.sent !== null) return;
  drop(order, ended);
  save();
  render();
}

// ---- start

function change(sku, quantity) {
  const { order } = state;
  if (busy || order.sent !== null) return;
  order.quantities[sku] = quantity;
  save();
  render();
  if (order.coupon) appraise();
}

function onSubmit(id, action) {
  at(id).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

if (state.currency) choose(state.currency);
makeRows({ change, order: () => state.order, leave: render });
offer((code) => {
  if (busy || state.order.sent !== null || state.order.coupon) return;
  state.order.code = code;
  save();
  render();
  at("code").focus();
});
at("key").value = key();
at("key-box").open = key() === "";
at("key").addEventListener("input", () => {
  state.key = at("key").value.trim() || null;
  save();
});
at("user").addEventListener("input", () => {
  state.user = at("user").value.trim();
  save();
});
at("currency").append(...CURRENCIES.map((one) => new Option(one)));
at("currency").addEventListener("change", () => {
  choose((state.currency = at("currency").value));
  save();
  render();
});
at("code").addEventListener("input", () => {
  state.order.code = at("code").value;
  save();
  render();
});
onSubmit("key-form", () => at("code").focus());
onSubmit("code-form", () => run(apply));
at("remove").addEventListener("click", () => run(() => remove(state.order.coupon)));
at("remove-card").addEventListener("click", () => run(() => remove(state.order.card)));
at("add").addEventListener("click", () => {
  state.order.adding = true;
  save();
  render();
  at("code").focus();
});
at("pay").addEventListener("click", () => run(pay));
at("leave").addEventListener("click", () => run(leave));
at("decline").addEventListener("click", () => run(decline));
at("retry").addEventListener("click", () => retry && run(retry));
at("copy").addEventListener("click", copy);
at("again").addEventListener("click", () => begin());
at("cancel").addEventListener("click", () => run(cancel));
at("use-gift").addEventListener("click", () => {
  begin(state.order.receipt.gift.code);
  run(apply);
});
save();
render();
if (state.order.sent !== null) say(MAYBE_PAID, "bad");
else if (state.order.coupon) appraise();
setInterval(tick, TICK_MS);
