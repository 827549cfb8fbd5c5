// The timeline of a code, a user, an order or a request; the code in Redis and in Postgres; validating a redeem.


import { at, get, named, patch, post, remove } from "./api.js";
import { ask, badge, byActor, card, code, field, fill, h, head, input, inZone, listing, local, money, number, order, pairs, plural, refill, setting, showErrors, statusBadge, tell, toast, user, when } from "./dom.js";
import { askToRelease, entriesOf } from "./codeevents.js";
import { currencyOf } from "./discount.js";
import { rollBack } from "./redemptions.js";
import { typedAmount } from "./typed.js";

const LOOK_MS = 2000;
const again = () => dispatchEvent(new Event("hashchange"));
const WHAT = { assigned: "Assigned", unassigned: "Unassigned", redeemed: "Redeemed", rolledBack: "Rolled back", credited: "Credited", closed: "Closed" };
const FOR = { assigned: "to", unassigned: "from", redeemed: "by", rolledBack: "of" };
const TURNS = { shopper: "Tell the customer.", caller: "The shop's program or its settings are wrong.", retry: "Try again shortly." };
const COLOURS = { assigned: "", unassigned: "warn", redeemed: "good", rolledBack: "warn", credited: "", closed: "warn" };

// What an event took off an order, or did to a card.
function amountsOf({ what, orderValue, discountAmount, balanceAfter, currency }) {
  const left = balanceAfter === null ? "" : `; ${money(balanceAfter, currency)} left on it`;
  const amount = money(discountAmount, currency);
  if (what === "redeemed") return orderValue !== null && `: ${money(orderValue, currency)}, ${amount} ${left ? "paid by card" : "off"}${left}`;
  return { credited: ` with ${amount}`, closed: `, which took ${amount}` }[what]?.concat(left);
}

function givenBack({ restore, discountAmount, balanceAfter, currency }) {
  if (balanceAfter === null) return restore ? "Its use was given back. " : "Its use was not given back. ";
  return restore ? `The card got ${money(discountAmount, currency)} back; ${money(balanceAfter, currency)} left on it. ` : "The card got nothing back. ";
}

function renderEvent(event, marked) {
  const byWhom = event.userId && [` ${FOR[event.what]} `, user(event.userId)];
  const reason = event.reason && `“${event.reason}”`;
  return h("li", { class: COLOURS[event.what] },
    when(event.at),
    h("div", {},
      h("strong", {}, event.what === "assigned" && event.orderId ? "Given as a gift" : WHAT[event.what]), " ", code(event.code), byWhom,
      event.orderId && [" for ", order(event.orderId)], byActor(event), amountsOf(event),
      event.redemptionId === marked && marked && [" ", badge("searched for", "info")],
      event.what === "rolledBack" ? h("p", {}, givenBack(event), reason) : reason && h("p", {}, reason),
      h("p", { class: "hint" }, `event ${event.event}`, event.ipAddress && ` · ${event.ipAddress}`, event.userAgent && ` · ${event.userAgent}`,
        event.redemptionId && ` · redemption ${event.redemptionId}`)));
}

// `more` are entries { at, item } beside the events.
function history(timeline, marked, more = []) {
  const undone = new Set(timeline.events.filter(({ what }) => what === "rolledBack").map(({ redemptionId }) => redemptionId));
  const back = (event) => h("button", { type: "button", onclick: async () => { if (await rollBack([event])) again(); } }, "Roll back");
  const entries = timeline.events.map((event) => {
    const item = renderEvent(event, marked);
    if (event.what === "redeemed" && !undone.has(event.redemptionId)) item.lastChild.append(back(event));
    return { at: event.at, item };
  });
  entries.push(...more);
  entries.sort((one, other) => new Date(other.at) - new Date(one.at));
  return card("Events",
    !timeline.recorded && h("p", { class: "banner warn" }, "Postgres is behind Redis: the newest events may be missing."),
    entries.length === 0 && h("p", { class: "soft" }, "No events yet."),
    h("ol", { class: "timeline" }, entries.map(({ item }) => item)));
}

// ---- a code

// Postgres stores no holds: what a held code's status is without them.
const withoutHolds = ({ status, userId }) => (status !== "locked" ? status : userId ? "assigned" : "available");

function verdict(redis, postgres, recorded) {
  if (!postgres) return h("p", { class: "banner bad" }, "The code is not in Postgres.");
  const differ = [
    redis.redemptions !== postgres.redemptions && "redemptions", redis.userId !== postgres.userId && "user",
    redis.maxRedemptions !== postgres.maxRedemptions && "limit", withoutHolds(redis) !== postgres.status && "status",
  ].filter(Boolean);
  if (differ.length === 0) return h("p", { class: "banner good" }, "Redis and Postgres agree.");
  if (!recorded) return h("p", { class: "banner warn" }, `Postgres is behind and still has another ${differ.join(", ")}.`);
  return h("p", { class: "banner bad" }, `Redis and Postgres differ in ${differ.join(", ")}. If this stays so, reconcile.`);
}

const onCard = ({ available, held }, currency) => `${money(available, currency)}${Number(held) ? `, and ${money(held, currency)} held` : ""}`;
const uses = (coupon) => `${number(coupon.redemptions)} of ${coupon.maxRedemptions === null ? "any number" : number(coupon.maxRedemptions)}`;

function versus(redis, postgres, currency) {
  const { lock, lastRedemption: last } = redis;
  const status = redis.status === "locked" ? "Status without holds" : "Status";
  return h("div", { class: "versus" },
    card("In Redis", pairs([
      [status, statusBadge(withoutHolds(redis))], ["Redemptions", uses(redis)], ["Assigned to", user(redis.userId)],
      ["Held by", lock ? [user(lock.userId), lock.orderId && [" for ", order(lock.orderId)], " until ", when(lock.expiresAt)] : "no one"],
      ["Last redeemed by", last ? [user(last.userId), " ", when(last.redeemedAt)] : "–"], ["Expires", when(redis.expiresAt)],
      redis.balance && ["Left on the card", onCard(redis.balance, currency)],
    ])),
    card("In Postgres", postgres ? pairs([
      [status, statusBadge(postgres.status)], ["Redemptions", uses(postgres)], ["Assigned to", user(postgres.userId)],
      ["Held by", h("span", { class: "soft" }, "holds are only in Redis")], ["Last redeemed by", user(postgres.redeemedBy)], ["Expires", when(postgres.expiresAt)],
      postgres.amount && ["Issued with", money(postgres.amount, currency)],
    ]) : h("p", {}, "Not found.")));
}

// Validate a redeem for a user and an order. Without a user, neither owner nor limits of users are looked at: the answer says so.
function asking({ code: name, userId: owner }, book, page) {
  const currency = currencyOf(book.discount, page.session);
  const forUser = input({ name: "userId", maxlength: 100, placeholder: "any user" });
  const forOrder = input({ name: "orderId", maxlength: 100, placeholder: "none" });
  const value = input({ name: "orderValue", inputmode: "decimal", placeholder: "none", value: "100.00" });
  const result = h("div", { role: "status" });
  const most = book.maxRedemptionsPerUser;
  const others = owner ? `${owner} alone` : most ? `a user with fewer than ${plural(most, "redemption")} of this book` : "any user";
  const look = async () => {
    showErrors(form, null);
    try {
      const body = { code: name };
      for (const [key, control] of [["userId", forUser], ["orderId", forOrder], ["orderValue", value]]) {
        if (control.value.trim()) body[key] = key === "orderValue" ? typedAmount(control) : control.value.trim();
      }
      const validation = await post("/v1/coupons/validate", body);
      const sentences = await Promise.all(validation.reasons.map((reason) => get(named("/problems/*", reason)).then(({ title, for: turn }) => `${title} ${TURNS[turn]}`, () => "")));
      const off = validation.discountAmount === null ? "" : ` ${money(validation.discountAmount, currency)} ${book.discount?.type === "balance" ? "paid by card" : "off"}${validation.finalAmount === null ? "" : `, ${money(validation.finalAmount, currency)} to pay`}.`;
      fill(result, validation.valid
        ? h("p", { class: "banner good" }, `Yes, for ${body.userId ?? others}.${off}`)
        : h("div", { class: "banner bad" }, h("p", {}, "No, it would be refused:"),
            h("ul", {}, validation.reasons.map((reason, place) => h("li", {}, h("span", { class: "code" }, reason), ` ${sentences[place]}`)))));
    } catch (error) {
      fill(result, h("p", { class: "error" }, showErrors(form, error)));
    }
  };
  const form = h("form", { class: "row" }, field("User", forUser), field("Order", forOrder), field(`Order value (${currency})`, value), h("button", {}, "Check"));
  form.addEventListener("submit", (event) => { event.preventDefault(); look(); });
  if (!page.may("checkout")) return card("Would it redeem now?", h("p", { class: "soft" }, "This needs the scope checkout."));
  look();
  return card("Would it redeem now?", form, result);
}

const expiry = ({ expiresAt }) => (expiresAt ? [` · ${new Date(expiresAt) > Date.now() ? "expires" : "expired"} `, when(expiresAt)] : " · no end");

// Crediting and closing a card. The key lets a repeat after a lost answer change nothing more.
function cardActions(name, { available }, currency, button) {
  const amount = input({ name: "amount", inputmode: "decimal", required: true });
  const [why, whyClosed] = [0, 1].map(() => input({ name: "reason", maxlength: 500 }));
  const headers = { "Idempotency-Key": crypto.getRandomValues(new Uint32Array(4)).join("-") };
  const credit = button("Credit the card", [field(`Amount (${currency})`, amount, "It is added to what is left on the card."), field("Reason", why)], () =>
    post(named("/v1/coupons/*/credit", name), { amount: typedAmount(amount), reason: why.value.trim() || null }, { headers }), false);
  const text = `${money(available, currency)} are taken off the card, and can't be spent any more. A later credit can be.`;
  const close = button("Close the card", [h("p", {}, text), field("Reason", whyClosed)], () =>
    post(named("/v1/coupons/*/close", name), { reason: whyClosed.value.trim() || null }));
  return Number(available) ? [credit, close] : [credit];
}

// The buttons of what can be done with a code now. Of several holds, each is released in the timeline.
function actionsOf(coupon, holds, release, page, currency) {
  const { code: name, lock, userId, redemptions, status, balance } = coupon;
  const button = (title, content, act, danger = true) => h("button", { type: "button", onclick: async () => {
    if (await ask(title, content, title, act, { danger })) again();
  } }, title);
  const buttons = [];
  if (lock && release && !(holds?.total > 1)) {
    buttons.push(h("button", { type: "button", onclick: () => release(lock) }, "Release the hold"));
  }
  if (status === "available" && !lock && page.may("checkout")) {
    const control = input({ name: "userId", required: true, maxlength: 100 });
    buttons.push(button("Assign to a user", field("User", control, "Only this user can then redeem the code."), () =>
      post(named("/v1/coupons/assign/*", name), { userId: control.value.trim() }), false));
  }
  if (userId && redemptions === 0) {
    buttons.push(button("Unassign", h("p", {}, `${name} is then no longer assigned to ${userId}. Other codes stay as they are.`), () =>
      post(named("/v1/coupons/unassign/*", name), {})));
  }
  const end = input({ name: "expiresAt", type: "datetime-local", step: 1, value: local(coupon.expiresAt) });
  buttons.push(button("Set the end", field("Expires", end, `Empty: with its book. ${inZone()}`), () =>
    patch(named("/v1/coupons/*", name), { expiresAt: end.value ? new Date(end.value).toISOString() : null }), false));
  if (balance) buttons.push(...cardActions(name, balance, currency, button));
  const [turn, text, next] = status === "inactive"
    ? ["Switch on", "This code can be used again.", "active"]
    : ["Switch off", "No one can lock, assign or redeem this code until it is switched on. Other codes stay as they are.", "inactive"];
  buttons.push(button(turn, h("p", {}, text), () => patch(named("/v1/coupons/*", name), { status: next })));
  return buttons;
}

async function showCode(main, name, query, page) {
  const path = named("/v1/coupons/*", name);
  const load = () => Promise.all([page.get(path), page.get(at("/console/data/timeline", { kind: "code", name }))]);
  let [redis, timeline] = await load();
  const [book, { items: changes }] = await Promise.all([
    page.get(named("/v1/books/*", redis.bookId)), page.get(at("/console/data/changes", { code: name }))]);
  const currency = currencyOf(book.discount, page.session);
  const compared = h("div", { class: "card" });
  const past = h("div");
  const actions = h("div", { class: "row" });
  const release = page.may("checkout") ? async (hold) => { if (await askToRelease(redis.code, hold)) again(); } : null;
  const paint = () => {
    refill(actions, actionsOf(redis, timeline.holds, release, page, currency));
    refill(compared, verdict(redis, timeline.postgres, timeline.recorded), versus(redis, timeline.postgres, currency));
    if (!past.contains(document.activeElement)) {
      fill(past, history(timeline, query.get("redemption"), entriesOf(redis, timeline, changes, release)));
    }
  };
  fill(main,
    head(redis.code, [statusBadge(redis.status), " of ", h("a", { href: `#/book/${book.bookId}` }, book.name), expiry(redis)],
      actions),
    asking(redis, book, page), compared, past);
  paint();
  setTimeout(() => page.every(LOOK_MS, async () => { [redis, timeline] = await load(); paint(); }), LOOK_MS);
}

// ---- a user, an order, a request

async function showUser(main, name, timeline, page) {
  const path = named("/v1/users/*", name);
  const profile = await page.get(path);
  const most = async () => {
    const control = input({ name: "maxCoupons", type: "number", min: 1, value: profile.maxCoupons ?? "" });
    const text = "Empty: the workspace's limit.";
    if (await ask(`Change the limit of ${name}`, field("Coupon limit", control, text), "Save", () =>
      patch(path, { maxCoupons: control.value ? Number(control.value) : null }))) again();
  };
  const erase = async () => {
    const text = `A pseudonym replaces this user in ${plural(timeline.events.length, "event")}${timeline.events.length === 200 ? " and more" : ""}, ` +
      `${plural(profile.coupons, "coupon")} and everything else that is stored; addresses and user agents are removed. This can't be undone.`;
    if (await ask(`Delete the data of ${name}?`, h("p", {}, text), "Delete the data", () => remove(path), { danger: true })) {
      toast(`The data of ${name} is deleted.`);
      location.hash = "#/users";
    }
  };
  const coupons = h("div");
  fill(main,
    head(name, "A user.", h("button", { type: "button", onclick: () => most().catch(tell) }, "Change the limit"),
      h("button", { type: "button", class: "danger", onclick: () => erase().catch(tell) }, "Delete the data")),
    h("div", { class: "card" }, pairs([
      ["Coupons", number(profile.coupons)], ["Coupon limit", profile.maxCoupons === null ? "no limit" : number(profile.maxCoupons)],
      ["Created", profile.createdAt ? when(profile.createdAt) : "never; the workspace's defaults apply"],
      ["Metadata", h("span", { class: "code" }, setting(profile.metadata))],
    ])),
    card("Coupons", coupons), history(timeline));
  await listing(coupons, "Coupons", [
    { name: "Code", of: (row) => code(row.code) },
    { name: "Status", of: (row) => statusBadge(row.status) },
    { name: "Redemptions", number: true, of: uses },
    { name: "Assigned", of: (row) => when(row.assignedAt) },
    { name: "Expires", of: (row) => when(row.expiresAt) },
  ], (cursor) => page.get(at(`${path}/coupons`, { limit: 20, cursor })), "This user has no coupons.");
}

function showOrder(main, name, timeline) {
  const undone = new Set(timeline.events.filter(({ what }) => what === "rolledBack").map(({ redemptionId }) => redemptionId));
  const stand = timeline.events.filter(({ what, redemptionId }) => what === "redeemed" && !undone.has(redemptionId));
  const back = async () => {
    const reason = input({ name: "reason", maxlength: 255 });
    const label = `Roll back ${plural(stand.length, "redemption")}`;
    if (await ask(`${label} of this order?`, [
      h("p", {}, "Each coupon of the order gets its use back. Its gift is taken back unless it was used. This can't be undone."), field("Reason", reason),
    ], label, () => post(named("/v1/orders/*/rollback", name), { reason: reason.value.trim() || null }), { danger: true })) again();
  };
  fill(main, head(name, "An order.", stand.length > 0 && h("button", { type: "button", class: "danger", onclick: () => back().catch(tell) }, "Roll back the order")), history(timeline));
}

export async function show(main, { kind, names: [name], query }, page) {
  if (kind === "code") return showCode(main, name, query, page);
  const timeline = await page.get(at("/console/data/timeline", { kind, name }));
  if (kind === "user") return showUser(main, name, timeline, page);
  if (kind === "order") return showOrder(main, name, timeline);
  const more = kind === "key" ? "Events of this Idempotency-Key." : "Redemptions within one second of this request. If it was refused, search again some seconds later: that is found for one hour.";
  fill(main, head(name, more), history(timeline));
}
