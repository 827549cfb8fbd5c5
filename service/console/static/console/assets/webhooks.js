// The list of webhooks.

import { at, patch, post } from "./api.js";
import { ask, badge, choices, field, fill, h, head, input, listing, reveal, tell, when } from "./dom.js";

const EVENTS = {
  "coupon.assigned": "a coupon was assigned, or given as a gift",
  "coupon.unassigned": "an assignment was taken back",
  "coupon.redeemed": "a coupon was redeemed",
  "redemption.rolled_back": "a redemption was rolled back",
  "book.low_stock": "a book runs low",
  "book.exhausted": "a book has no codes or uses left",
  "book.budget_low": "a budget is spent to 80 or 100 %",
  "job.finished": "a job has ended",
  "reconcile.drift": "Redis and Postgres differed",
  "webhook.disabled": "another webhook was switched off",
};
const RECEIVER = [[204, "accepts everything"], [503, "fails"], [410, "is gone"]];
const WHY = { failing: "no delivery succeeded for three days", gone: "its receiver answered 410" };

export const state = ({ status, reason, failingSince }) => [
  badge(status === "inactive" ? "switched off" : "active"),
  status === "inactive" ? reason && ` ${WHY[reason]}` : failingSince && [" ", badge("failing", "bad"), " since ", when(failingSince)],
];

// The form of a new or existing webhook. Returns the response, or null.
export function form(page, webhook = null) {
  const url = input({ name: "url", type: "url", required: true, maxlength: 2000, value: webhook?.url ?? "", class: "code" });
  const description = input({ name: "description", maxlength: 2000, value: webhook?.description ?? "" });
  const events = Object.entries(EVENTS).map(([event, what]) =>
    [event, input({ type: "checkbox", checked: webhook?.events.includes(event) ?? false }), what]);
  const trying = RECEIVER.map(([status, what]) =>
    h("button", { type: "button", onclick: () => { url.value = `${location.origin}/console/receiver/${status}`; } }, what));
  const content = [
    field("Address", url, "An https address on the public internet; http on this machine if the service allows it."),
    page.session.flashSale && h("div", { class: "row", role: "group", "aria-label": "The test receiver" },
      h("span", { class: "hint" }, "Or a test receiver that"), trying),
    choices("Events", "events", events.map(([event, box, what]) => field(event, box, what))),
    field("Description", description),
  ];
  const fields = () => ({
    url: url.value.trim(), description: description.value.trim(), events: events.filter(([, box]) => box.checked).map(([event]) => event),
  });
  return webhook
    ? ask("Change webhook", content, "Save", () => patch(`/v1/webhooks/${webhook.webhookId}`, fields()))
    : ask("New webhook", content, "Create webhook", () => post("/v1/webhooks", fields()));
}

async function make(page) {
  const made = await form(page);
  if (!made) return;
  location.hash = `#/webhook/${made.webhookId}`;
  await new Promise((resolve) => { addEventListener("hashchange", resolve, { once: true }); });
  await reveal("The signing secret", made.secret);
}

export async function show(main, _, page) {
  const place = h("div");
  fill(main, head("Webhooks", "Addresses that get events as soon as they are recorded.",
    h("button", { type: "button", class: "primary", onclick: () => make(page).catch(tell) }, "New webhook")), place);
  await listing(place, "Webhooks", [
    { name: "Address", class: "long", of: (webhook) => h("a", { href: `#/webhook/${webhook.webhookId}` }, webhook.url) },
    { name: "Status", of: state },
    { name: "Events", class: "long", of: (webhook) => h("span", { class: "row" }, webhook.events.map((event) => badge(event, "info"))) },
    { name: "Description", class: "long", of: (webhook) => webhook.description || "–" },
    { name: "Created", of: (webhook) => when(webhook.createdAt) },
  ], (cursor) => page.get(at("/v1/webhooks", { limit: 50, cursor })), "No webhooks yet.");
}
