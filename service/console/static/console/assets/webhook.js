// One webhook: its deliveries, live, with the receiver's answers; test event, code for the receiver, new secret, activation.

import { ask as request, at, get, patch, post, remove } from "./api.js";
import { ask, badge, bytes, card, copyButton, field, fill, h, head, number, pairs, refill, reveal, select, table, tell, toast, when } from "./dom.js";
import { form, state } from "./webhooks.js";

const LOOK_MS = 1000;
const PAGE = 50;
const MOST = 1000;
const TEST_LOOK_MS = 250;
const TEST_MS = 20_000; // the receiver has 15 s
const CHECKS = [["Python", "verify.py"], ["Node", "verify.mjs"]];
export const OVERLAPS = [["0", "no time"], ["3600", "an hour"], ["86400", "a day"], ["604800", "a week"]];

// A delivery that is due may wait for an earlier event of its coupon, or for a receiver that fails.
const isDue = ({ nextAttemptAt }) => new Date(nextAttemptAt) <= Date.now();
const lastAnswer = ({ lastStatus, lastError }) => lastError ?? (lastStatus && `status ${lastStatus}`);

// An attempt, with what the receiver answered.
const attempt = ({ at: began, milliseconds, status, error, response }, first) => h("details", { open: first },
  h("summary", {}, when(began), `: ${error ?? `status ${status}`}, ${number(milliseconds)} ms`),
  response ? h("pre", { class: "tall", tabindex: 0 }, response) : h("p", { class: "hint" }, status ? "The response has no body." : "There was no response."));

// What a delivery sends, with its attempts. Resolves to whether it is sent again.
async function inspect(path, { deliveryId }) {
  const { payload, attemptLog, ...row } = await get(`${path}/deliveries/${deliveryId}`);
  const { headers, body, bodyBytes } = payload;
  const missing = bodyBytes === null ? "What it is about is deleted." : `It has ${bytes(bodyBytes)}, too much to show.`;
  const text = `${Object.entries(headers).map(([name, value]) => `${name}: ${value}\n`).join("")}webhook-timestamp, webhook-signature: made anew for each attempt`;
  return ask(`Delivery of ${row.event}`, [
    pairs([
      ["Status", badge(row.status)], row.nextAttemptAt && [isDue(row) ? "Due since" : "Next attempt", when(row.nextAttemptAt)], ["Created", when(row.createdAt)],
    ]),
    h("h3", {}, "Attempts"),
    attemptLog.length ? attemptLog.toReversed().map((one, place) => attempt(one, place === 0)) : h("p", { class: "soft" }, "None yet."),
    attemptLog.length > 0 && h("p", { class: "hint" }, "The newest 20, with the first 1,024 bytes of the response. What is not printable is an escape, such as \\x1b."),
    h("h3", {}, "Headers"), h("pre", { tabindex: 0 }, text),
    h("h3", {}, "Body"), body ? h("pre", { class: "tall", tabindex: 0, role: "region", "aria-label": "Body" }, JSON.stringify(body, null, 2)) : h("p", { class: "soft" }, missing),
    body && h("p", { class: "hint" }, `${bytes(bodyBytes)} as sent, without spaces, from the facts as they are recorded now.`),
  ], "Send again", () => post(`${path}/deliveries/${deliveryId}/redeliver`, {}));
}

// Wait until the receiver has answered a test event, and show its answer.
async function showTest(path, made, { signal }) {
  const until = Date.now() + TEST_MS;
  for (let row = made; row.attempts === 0 && row.status === "pending" && Date.now() < until;) {
    await new Promise((resolve) => { setTimeout(resolve, TEST_LOOK_MS); });
    row = await get(`${path}/deliveries/${made.deliveryId}`, { signal });
  }
  if (!document.getElementById("dialog").open) await inspect(path, made);
}

// Code to copy that checks a request's signature.
function checks({ signal }) {
  const place = h("div", { class: "stack" });
  const load = async () => fill(place, await Promise.all(CHECKS.map(async ([language, file]) => {
    const text = h("pre", { class: "tall", tabindex: 0, role: "region", "aria-label": language }, await (await request("GET", `/console/assets/${file}`, { signal })).text());
    return h("div", { class: "stack" }, h("div", { class: "row spread" }, h("h3", {}, language), copyButton(text, `Copy ${language}`)), text);
  })));
  return h("details", { ontoggle: () => { if (!place.hasChildNodes()) load().catch(tell); } },
    h("summary", {}, "Code for the receiver that checks the signature"), place);
}

// `coupon.redeemed`, which a narrow column breaks after the point.
const breakable = (event) => event.split(".").flatMap((part, at) => (at ? [".", h("wbr"), part] : [part]));

function columns(show, again) {
  return [
    { name: "Created", of: (row) => when(row.createdAt) },
    { name: "Event", class: "long", of: (row) => [
      h("button", { type: "button", class: "link", "aria-label": `Show ${row.event} ${row.eventId}`, onclick: () => show(row) }, breakable(row.event)), h("div", { class: "hint" }, row.eventId)] },
    { name: "Status", of: (row) => badge(row.status) },
    { name: "Attempts", number: true, of: (row) => number(row.attempts) },
    { name: "Last attempt", of: (row) => [when(row.lastAttemptAt), h("div", { class: "hint" }, lastAnswer(row)),
      row.nextAttemptAt && h("div", { class: "hint" }, isDue(row) ? "due since " : "next ", when(row.nextAttemptAt))] },
    { name: "Actions", hidden: true, of: (row) => h("button", { type: "button", "aria-label": `Send ${row.eventId} again`, onclick: () => again(row) }, "Send again") },
  ];
}

async function rotate({ webhookId }) {
  const overlap = select(OVERLAPS, "86400", { name: "overlapSeconds" });
  const made = await ask("New secret", [
    h("p", {}, "It is shown once and signs all deliveries from now on. For a while the old secret signs them too, so that the receiver can change over."),
    field("Old secret signs for", overlap),
  ], "Create secret", () => post(`/v1/webhooks/${webhookId}/rotate`, { overlapSeconds: Number(overlap.value) }));
  if (made) await reveal("The new signing secret", made.secret);
}

async function turn({ webhookId, status, url }, again) {
  const off = status === "active";
  const text = off
    ? "Events wait until it is switched on, for up to 14 days."
    : "All events that wait are sent.";
  const done = await ask(off ? "Switch the webhook off?" : "Switch the webhook on?", [h("p", { class: "code" }, url), h("p", {}, text)], off ? "Switch off" : "Switch on", () =>
    patch(`/v1/webhooks/${webhookId}`, { status: off ? "inactive" : "active" }), { danger: off });
  if (done) {
    toast(off ? "The webhook is switched off." : "The webhook is active.");
    again();
  }
}

async function drop({ webhookId, url }) {
  const text = "It gets no more events, and its pending deliveries are deleted. This can't be undone.";
  const done = await ask("Delete the webhook?", [h("p", { class: "code" }, url), h("p", {}, text)], "Delete webhook", () =>
    remove(`/v1/webhooks/${webhookId}`), { danger: true });
  if (done) {
    toast("The webhook is deleted.");
    location.hash = "#/webhooks";
  }
}

export async function show(main, { names: [webhookId] }, page) {
  const path = `/v1/webhooks/${encodeURIComponent(webhookId)}`;
  const top = h("div");
  const facts = h("div", { class: "card" });
  const deliveries = h("div");
  let limit = PAGE;
  let webhook = null;
  let before = "";

  const look = async () => {
    const [now, list] = await Promise.all([page.get(path), page.get(at(`${path}/deliveries`, { limit }))]);
    const latest = JSON.stringify([now, list, limit]);
    if (latest === before || main.matches(":active")) return;
    before = latest;
    webhook = now;
    paint(list);
  };
  const act = (what) => () => what().then(look).catch(tell);
  const again = (row) => act(async () => {
    await post(`${path}/deliveries/${row.deliveryId}/redeliver`, {});
    toast(`${row.eventId} is sent again.`);
  })();
  const show = (row) => act(async () => { if (await inspect(path, row)) toast(`${row.eventId} is sent again.`); })();
  const tried = act(async () => {
    const made = await post(`${path}/test`, {});
    const off = webhook.status !== "active";
    toast(off ? `${made.eventId} is sent once the webhook is switched on.` : `${made.eventId} is sent; its answer is shown as soon as it comes.`);
    if (!off) showTest(path, made, page).catch(tell);
  });
  const button = (name, onclick, kind = null) => h("button", { type: "button", class: kind, onclick }, name);

  function paint({ items, nextCursor }) {
    const off = webhook.status === "inactive";
    refill(top, head("Webhook", h("span", { class: "code" }, webhook.url),
      button("Send a test event", tried),
      button("Change", act(() => form(page, webhook))),
      button("New secret", act(() => rotate(webhook))),
      button(off ? "Switch on" : "Switch off", act(() => turn(webhook, look))),
      button("Delete", () => drop(webhook).catch(tell), "danger")));
    refill(facts, pairs([
      ["Status", state(webhook)], off && ["Switched off", when(webhook.inactiveSince)],
      ["Events", h("span", { class: "row" }, webhook.events.map((event) => badge(event, "info")))],
      ["Description", webhook.description || "–"], ["Id", h("span", { class: "code" }, webhook.webhookId)],
      ["Created", when(webhook.createdAt)], ["Changed", when(webhook.updatedAt)],
    ]));
    refill(deliveries, table("Deliveries", columns(show, again), items, "No deliveries yet. Send a test event to check that it is reachable."),
      nextCursor && limit < MOST && h("p", {}, button("Show more", act(async () => { limit = Math.min(limit * 2, MOST); }))));
  }

  await look();
  fill(main, top, facts, h("div", { class: "card" }, checks(page)), card("Deliveries", h("p", { class: "hint" }, "The last 14 days, newest first; live."), deliveries));
  setTimeout(() => page.every(LOOK_MS, look), LOOK_MS);
}
