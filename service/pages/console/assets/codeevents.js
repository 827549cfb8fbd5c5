// Entries of a code's timeline that are no events of the record: its holds, its end, and the changes by operators.

import { actorOf, h, order, plural, spelled, user, when } from "./dom.js";

const TIMES = new Set(["expiresAt", "validFrom", "validUntil"]);
const DONE = { active: "Switched on", inactive: "Switched off" };

const entry = (time, kind, ...content) => ({ at: time, item: h("li", { class: kind }, when(time), h("div", {}, content)) });
const is = (text) => h("strong", {}, text);

// The present holds, from their begin, and when they end.
function holdsOf({ holds }) {
  if (!holds) return [];
  const left = holds.total - holds.first.length;
  return holds.first.flatMap((hold, place) => {
    const holder = () => [user(hold.userId), hold.orderId && [" for ", order(hold.orderId)]];
    return [
      entry(hold.since, "warn", is("Held"), " by ", holder()),
      entry(hold.until, "next", is("Hold ends"), " of ", holder(), h("p", { class: "hint" }, "Unless it is renewed, used or released before.",
        left > 0 && place === holds.first.length - 1 && ` ${plural(left, "hold")} more end later.`)),
    ];
  });
}

// When the code expires, or has expired; nothing for one that is used up.
function endOf({ expiresAt, status }) {
  if (!expiresAt || status === "redeemed" || status === "exhausted") return [];
  return [new Date(expiresAt) > Date.now() ? entry(expiresAt, "next", is("Expires")) : entry(expiresAt, "warn", is("Expired"))];
}

const by = (change) => (change.actor ? ` by ${change.actor === "key" ? "the key " : ""}${actorOf(change)}` : "");

const value = (name, of) => (of == null ? "none" : TIMES.has(name) ? when(of) : typeof of === "string" ? of : JSON.stringify(of));

function title({ scope, before, after }) {
  const names = Object.keys(after);
  if (scope !== "book" && names.length === 1 && names[0] === "status") return is(DONE[after.status]);
  if (scope === "book" && names.length === 1 && names[0] === "status") {
    return is({ active: "Book resumed", inactive: "Book paused", archived: "Book archived" }[after.status]);
  }
  return [is(scope === "book" ? "Book changed" : "Changed"), ": ", names.map((name, place) =>
    [place > 0 && ", ", spelled(name), " ", value(name, before[name]), " → ", value(name, after[name])])];
}

const describe = (change) => entry(change.at, "warn", title(change), change.scope === "book" && ",", by(change),
  change.scope === "job" && h("p", { class: "hint" }, "As one of many codes, by a ", h("a", { href: "#/jobs" }, "job"), ". The time is that of its order."),
  change.scope === "code" && h("p", { class: "hint" }, "This code, or another of the book with the same last characters: the audit stores no others."));

// All entries, in no order.
export function entriesOf(redis, timeline, changes) {
  const added = timeline.postgres?.addedAt;
  return [
    ...holdsOf(timeline), ...endOf(redis), ...changes.map(describe),
    ...(added ? [entry(added, "", is("Added"), " by upload or generation")] : []),
  ];
}
