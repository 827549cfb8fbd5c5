// The audit log, filtered by actor, action and time.

import { at } from "./api.js";
import { actorOf, badge, field, fileFormats, fileLink, fill, h, head, inZone, input, listing, local, order, plural, select, setting, spelled, user, when } from "./dom.js";

const ACTIONS = ["attempts.refused", "book.archived", "book.changed", "book.created", "codes.added", "codes.changed", "codes.changeOrdered",
  "codes.ordered", "coupon.assigned", "coupon.changed", "coupon.locked", "coupon.unassigned", "coupon.unlocked", "job.cancelled", "job.paused", "job.resumed", "key.changed",
  "key.created", "key.revoked", "key.rotated", "order.rolledBack", "reconcile.ordered", "redemption.rolledBack", "session.began", "session.ended", "user.changed", "user.created",
  "user.deleted", "webhook.changed", "webhook.created", "webhook.deleted", "webhook.rotated", "webhook.switchedOff", "workspace.changed",
  "workspace.created"];
const ACTORS = { "": "Anyone", key: "A key", person: "A person", command: "The command line", service: "The service" };
const SHOWN = 4;
const SHOWN_LETTERS = 240;

const utc = (control) => (control.value ? new Date(control.value).toISOString() : null);

function describeActor(entry, query) {
  if (entry.actor !== "key" && entry.actor !== "person") return actorOf(entry);
  const theirs = at("#/audit", { ...Object.fromEntries(query), actor: null, keyId: entry.keyId, person: entry.person });
  return [h("a", { href: theirs }, actorOf(entry)), entry.ipAddress && h("div", { class: "hint" }, entry.ipAddress)];
}

// The object by its name, else by its id.
function what({ action, subject, subjectName }) {
  const [kind] = action.split(".");
  const [id, ...rest] = subject.split(" ");
  const plain = subjectName ? h("span", { title: id }, subjectName) : h("span", { class: "code" }, subject);
  const link = (page) => h("a", { href: `#/${page}/${id}`, title: id }, subjectName ?? id);
  if (kind === "user") return user(subject);
  if (kind === "book" || kind === "codes") return link("book");
  if (kind === "order") return order(subject);
  if (kind === "redemption") return h("a", { class: "code", href: `#/search/${id}` }, id);
  if (kind === "coupon") return [link("book"), " ", h("span", { class: "code" }, rest.join(" "))];
  if (kind === "webhook" && subjectName) return link("webhook");
  if (kind === "job" && subjectName) return ["job of ", plain];
  return plain;
}

function change({ before, after }) {
  const names = Object.keys(after ?? before ?? {});
  if (names.length === 0) return "–";
  const one = (name) => [`${spelled(name)}: `, before && after ? [setting(before[name]), " → ", setting(after[name])] : setting((after ?? before)[name])];
  const list = h("ul", { class: "plain" }, names.map((name) => h("li", {}, one(name))));
  return names.length <= SHOWN && list.textContent.length <= SHOWN_LETTERS ? list : h("details", {}, h("summary", {}, plural(names.length, "value")), list);
}

function filters(query, keys) {
  const action = select([["", "Any action"], ...ACTIONS.map((name) => [name, name])], query.get("action") ?? "");
  const keyed = query.get("keyId");
  const person = input({ name: "person", maxlength: 255, value: query.get("person") ?? "" });
  const known = keys.some(({ keyId }) => keyId === keyed) || !keyed ? keys : [...keys, { keyId: keyed, name: `${keyed} (revoked)` }];
  const actor = select([...Object.entries(ACTORS), ...known.map(({ keyId, name }) => [`=${keyId}`, `Key ${name}`])], keyed ? `=${keyed}` : query.get("actor") ?? "");
  const since = input({ type: "datetime-local", step: 1, value: local(query.get("since")) });
  const until = input({ type: "datetime-local", step: 1, value: local(query.get("until")) });
  const form = h("form", { class: "card form", role: "search", "aria-label": "Audit" },
    field("Who", actor), field("Person", person), field("Action", action), field("From", since, inZone()), field("Until", until, inZone()),
    h("div", { class: "row end" }, h("button", { class: "primary" }, "Filter"), h("a", { class: "button", href: "#/audit" }, "Show all")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const key = actor.value.startsWith("=");
    location.hash = at("#/audit", {
      actor: key ? null : actor.value, keyId: key ? actor.value.slice(1) : null, person: person.value.trim(), action: action.value, since: utc(since), until: utc(until),
    });
  });
  return form;
}

export async function show(main, { query }, page) {
  const place = h("div");
  const { items: keys } = await page.get(at("/v1/keys", { limit: 200 }));
  fill(main,
    head("Audit", "Changes by actor, newest first. Entries can't be changed or removed.",
      fileLink("/v1/audit.csv", "Export all", { class: "button" }), fileFormats()),
    filters(query, keys), place);
  const asked = Object.fromEntries(["action", "actor", "keyId", "person", "since", "until"].map((name) => [name, query.get(name)]));
  await listing(place, "Audit", [
    { name: "When", of: (entry) => when(entry.at) },
    { name: "Who", class: "long", of: (entry) => describeActor(entry, query) },
    { name: "Action", class: "long", of: (entry) => badge(entry.action, entry.action === "attempts.refused" ? "warn" : "info") },
    { name: "Object", class: "long", of: what },
    { name: "Change", class: "long change", of: change },
    { name: "Request", of: ({ requestId, userAgent }) => (requestId ? h("details", {}, h("summary", { class: "code" }, `…${requestId.slice(-12)}`),
      h("div", { class: "code" }, requestId), h("div", { class: "hint" }, userAgent)) : "–") },
  ], (cursor) => page.get(at("/v1/audit", { limit: 50, cursor, ...asked })), "No entries match.");
}
