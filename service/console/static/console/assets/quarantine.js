// Events that wait for an operator's decision.

import { at, post } from "./api.js";
import { ask, badge, card, code, fill, h, order, table, tell, toast, user, when } from "./dom.js";

const SHOWN = 20;
const CHOICES = {
  retry: ["Record", "Postgres records the event as it was decided. It may refuse it again."],
  settle: ["Switch off", "The code is switched off, so that it is not sold any more. Nothing is recorded."],
  release: ["Release", "The event is dropped. The code gets the state that Postgres has, and may be sold again."],
};
const CAUSES = {
  refused: "Postgres refused it",
  not_redone: "Redis could not apply it again",
  unrecorded: "Redis was rebuilt before it was recorded",
};

async function resolve(event, choice, look) {
  const [label, effect] = CHOICES[choice];
  const done = await ask(`${label} event ${event.eventId}`, [
    h("p", {}, `What happened: ${event.text}`), event.recorded && h("p", {}, `In Postgres the code is: ${event.recorded}.`), h("p", {}, effect),
  ], label, () => post(`/v1/ops/quarantine/${event.eventId}`, { choice }), { danger: choice === "release" });
  if (!done) return;
  toast("A worker does it now. A comparison then repairs the code in Redis.");
  await look();
}

const state = ({ ordered, failure }) =>
  (ordered ? `${CHOICES[ordered][0]} is ordered.` : failure && [badge("failed", "bad"), ` ${failure}`]);

function events(items, more, look) {
  return card("Quarantine",
    h("p", {}, "Nobody can say whether these codes were used. They are blocked from the next rebuild of Redis on, until you decide."),
    table("Events in quarantine", [
      { name: "Event", of: ({ eventId, kind, text }) => [kind.replace("_", " "), h("div", { class: "hint", title: text }, eventId)] },
      { name: "Code", class: "long", of: (event) => (event.code ? code(event.code) : "–") },
      { name: "User", class: "long", of: ({ userId }) => user(userId) },
      { name: "Order", class: "long", of: ({ orderId }) => order(orderId) },
      { name: "Why", class: "long", of: ({ cause, reason }) => [CAUSES[cause], h("div", { class: "hint" }, reason)] },
      { name: "Since", of: ({ since }) => when(since) },
      { name: "Decision", class: "long", of: (event) => h("span", { class: "row" }, state(event), event.choices.map((choice) =>
        h("button", { type: "button", onclick: () => resolve(event, choice, look).catch(tell) }, CHOICES[choice][0]))) },
    ], items),
    more && h("p", { class: "hint" }, `The newest ${items.length} events. "scrip quarantine list" shows all.`));
}

// A card that is there only while events wait; `look` asks for them.
export function quarantine(page) {
  const element = h("div");
  let shown = null;
  const look = async () => {
    const now = await page.get(at("/v1/ops/quarantine", { limit: SHOWN }));
    if (JSON.stringify(now) === shown) return;
    shown = JSON.stringify(now);
    fill(element, now.items.length > 0 && events(now.items, now.nextCursor, look));
  };
  return { element, look };
}
