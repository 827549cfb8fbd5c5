// Entries of a code's timeline that are no events of the record: its holds, its end, and the changes by operators.

import { named, post } from "./api.js";
import { ask, byActor, h, order, plural, setting, spelled, user, when } from "./dom.js";

const DONE = { active: "Switched on", inactive: "Switched off" };
const ACTED = {
  "coupon.assigned": "Assigned in the console", "coupon.unassigned": "Unassigned in the console",
  "coupon.locked": "Held in the console", "coupon.unlocked": "Released in the console",
};

const entry = (time, kind, ...content) => ({ at: time, item: h("li", { class: kind }, when(time), h("div", {}, content)) });
const is = (text) => h("strong", {}, text);

const holderOf = ({ userId, orderId }) => [user(userId), orderId && [" for ", order(orderId)]];

// Ask, and release a hold; return whether that was done. A repeated lock returns the token. If the hold has just ended, a
// new one is made and released.
export function askToRelease(code, { userId, orderId }) {
  const text = `${userId} no longer holds ${code}${orderId ? ` for ${orderId}` : ""}, and others can use it.`;
  return ask("Release the hold", h("p", {}, text), "Release the hold", async () => {
    const { lockToken } = await post(named("/v1/coupons/lock/*", code), { userId, orderId });
    await post(named("/v1/coupons/unlock/*", code), { lockToken });
  }, { danger: true });
}

// The present holds, from their begin, and when they end. `release` is called with a hold; none without it.
function holdsOf({ holds }, release) {
  if (!holds) return [];
  const left = holds.total - holds.first.length;
  return holds.first.flatMap((hold, place) => {
    const label = `Release the hold of ${hold.userId}${hold.orderId ? ` for ${hold.orderId}` : ""}`;
    const button = release && h("button", { type: "button", "aria-label": label, onclick: () => release(hold) }, "Release");
    return [
      entry(hold.since, "warn", is("Held"), " by ", holderOf(hold), " ", button),
      entry(hold.until, "next", is("Hold ends"), " of ", holderOf(hold), h("p", { class: "hint" }, "Unless it is renewed, used or released before.",
        left > 0 && place === holds.first.length - 1 && ` ${plural(left, "hold")} more end later.`)),
    ];
  });
}

// When the code expires, or has expired; nothing for one that is used up.
function endOf({ expiresAt, status }) {
  if (!expiresAt || status === "redeemed" || status === "exhausted") return [];
  return [new Date(expiresAt) > Date.now() ? entry(expiresAt, "next", is("Expires")) : entry(expiresAt, "warn", is("Expired"))];
}

function title({ scope, action, before, after }) {
  if (ACTED[action]) return is(ACTED[action]);
  const names = Object.keys(after);
  if (scope !== "book" && names.length === 1 && names[0] === "status") return is(DONE[after.status]);
  if (scope === "book" && names.length === 1 && names[0] === "status") {
    return is({ active: "Book resumed", inactive: "Book paused", archived: "Book archived" }[after.status]);
  }
  return [is(scope === "book" ? "Book changed" : "Changed"), ": ", names.map((name, place) =>
    [place > 0 && ", ", spelled(name), " ", setting(before[name]), " → ", setting(after[name])])];
}

const describe = (change) => entry(change.at, "warn", title(change), change.scope === "book" && ",", byActor(change),
  change.scope === "job" && h("p", { class: "hint" }, "As one of many codes, by a ", h("a", { href: "#/jobs" }, "job"), ". The time is that of its order."),
  change.scope === "code" && h("p", { class: "hint" }, "This code, or another of the book with the same last characters: the audit stores no others."));

// All entries, in no order. `release` is called with a present hold that is to be released; null: it can't be.
export function entriesOf(redis, timeline, changes, release) {
  const added = timeline.postgres?.addedAt;
  return [
    ...holdsOf(timeline, release), ...endOf(redis), ...changes.map(describe),
    ...(added ? [entry(added, "", is("Added"), " by upload or generation")] : []),
  ];
}
