// API keys: made and rotated, with their secret shown once, and revoked.

import { at, post, remove } from "./api.js";
import { ask, badge, choices, field, fill, h, head, inZone, input, listing, reveal, select, tell, toast, when } from "./dom.js";
import { OVERLAPS } from "./webhook.js";

const SCOPES = [
  ["public", "validate a code, without the reason of a refusal"],
  ["checkout", "lock, redeem, assign, and read coupons and users"],
  ["manage", "books, codes, users, rollbacks, histories, exports"],
  ["operate", "keys, webhooks, audit, settings, consistency"],
];

async function make(again) {
  const name = input({ name: "name", required: true, maxlength: 255 });
  const scopes = SCOPES.map(([scope, what]) => [scope, input({ type: "checkbox" }), what]);
  const end = input({ name: "expiresAt", type: "datetime-local" });
  const made = await ask("New key", [
    field("Name", name, "Who or what uses it."),
    choices("Scopes", "scopes", scopes.map(([scope, box, what]) => field(scope, box, what))),
    field("Expires", end, `Empty: never. ${inZone()}`),
  ], "Create key", () => post("/v1/keys", {
    name: name.value.trim(), scopes: scopes.filter(([, box]) => box.checked).map(([scope]) => scope),
    expiresAt: end.value ? new Date(end.value).toISOString() : null,
  }));
  if (!made) return;
  again().catch(tell);
  await reveal(`The key ${made.name}`, made.secret);
}

async function revoke(key, again) {
  const done = await ask(`Revoke ${key.name}?`,
    h("p", {}, "Requests with it are refused, and everyone who signed in to the console with it is signed out. This can't be undone."),
    "Revoke key", () => remove(`/v1/keys/${key.keyId}`), { danger: true });
  if (done) {
    toast(`${key.name} is revoked.`);
    again().catch(tell);
  }
}

async function rotate(key, again) {
  const overlap = select(OVERLAPS, "86400", { name: "overlapSeconds" });
  const made = await ask(`Rotate ${key.name}?`, [
    h("p", {}, "A new key with the same name, scopes and end is created. The old key stays valid for a while, so that clients can change over; then it is revoked."),
    field("Old key stays valid for", overlap),
  ], "Rotate key", () => post(`/v1/keys/${key.keyId}/rotate`, { overlapSeconds: Number(overlap.value) }));
  if (!made) return;
  again().catch(tell);
  await reveal(`The new key ${made.name}`, made.secret);
}

export async function show(main, _, page) {
  const place = h("div");
  const again = () => listing(place, "Keys", [
    { name: "Name", class: "long", of: (key) => key.name },
    { name: "Begins with", of: (key) => h("span", { class: "code" }, `${key.prefix}…`) },
    { name: "Scopes", of: (key) => h("span", { class: "row" }, key.scopes.map((scope) => badge(scope, "info"))) },
    { name: "Created", of: (key) => when(key.createdAt) },
    { name: "Last used", of: (key) => when(key.lastUsedAt) },
    { name: "Expires", of: (key) => when(key.expiresAt) },
    { name: "Actions", hidden: true, of: (key) => h("span", { class: "row" },
      h("button", { type: "button", "aria-label": `Rotate ${key.name}`, onclick: () => rotate(key, again).catch(tell) }, "Rotate"),
      h("button", { type: "button", class: "danger", "aria-label": `Revoke ${key.name}`, onclick: () => revoke(key, again).catch(tell) }, "Revoke")) },
  ], (cursor) => page.get(at("/v1/keys", { limit: 50, cursor })));
  fill(main, head("Keys", "Keys of this workspace that are not revoked.",
    h("button", { type: "button", class: "primary", onclick: () => make(again).catch(tell) }, "New key")), place);
  await again();
}
