// A flash sale in the demo's workspace, run by the service and drawn as it happens.

import { ask as request } from "./api.js";
import { badge, code, field, fill, h, head, input, number, plural, showErrors, table } from "./dom.js";
import { bar, Plot } from "./plot.js";

const SALE_MS = 60_000;

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const whole = rest.split("\n");
    rest = whole.pop();
    for (const line of whole) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

function proof({ coupons, answered, redis, postgres, users, orders, neverMore }) {
  const part = (name, value, more) => h("div", {}, h("p", { class: "big" }, number(value)), h("p", {}, name), h("p", { class: "hint" }, more));
  return [
    h("p", { class: `banner ${neverMore ? "good" : "bad"}`, id: "verdict" }, neverMore
      ? `Nothing was oversold: of ${plural(coupons, "coupon")} ${number(answered)} ${answered === 1 ? "is" : "are"} sold, and the buyers, Redis and Postgres agree.`
      : "The three counts differ, or the record is behind. See the timeline of the code."),
    h("div", { class: "proof" },
      part("coupons", coupons, "on offer"), part("buyers", answered, "got “sold”"), part("in Redis", redis, "active redemptions"),
      part("in Postgres", postgres, `of ${number(users)} users for ${number(orders)} orders`)),
  ];
}

export async function show(main, _, page) {
  const buyers = input({ name: "buyers", type: "number", min: 1, max: 2000, value: 500, required: true });
  const coupons = input({ name: "coupons", type: "number", min: 1, max: 1000, value: 100, required: true });
  const go = h("button", { class: "primary" }, "Start the sale");
  const form = h("form", { class: "row" }, field("Buyers", buyers, "1 to 2,000"), field("Coupons", coupons, "1 to 1,000"), go);
  const alarm = h("p", { class: "error", role: "alert" });
  const place = h("div", { class: "halves" });
  fill(main,
    head("Flash sale", "Many buyers, few coupons: each locks, waits, and pays. One in ten walks away, one in ten clicks twice."),
    h("section", { class: "card" }, h("p", {}, "It creates a book with one code in the demo's workspace. The service runs it through the same operations and scripts as any checkout."), form, alarm),
    place);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    alarm.textContent = showErrors(form, null);
    try {
      await run(place, { buyers: Number(buyers.value), coupons: Number(coupons.value) }, page);
    } catch (error) {
      if (!page.signal.aborted) alarm.textContent = showErrors(form, error);
    } finally {
      go.disabled = false;
    }
  });
}

async function run(place, wanted, page) {
  const response = await request("POST", "/console/data/sale", { body: wanted, signal: page.signal, timeoutMs: SALE_MS });
  const plot = new Plot("Coupons over time", [{ name: "Sold" }, { name: "Held" }], { most: 400, capacity: wanted.coupons, seconds: 5 });
  plot.element.classList.add("wide");
  const counts = h("section", { class: "card", "aria-label": "Counts" });
  const refused = h("section", { class: "card" });
  const result = h("section", { class: "card wide", role: "status" }, h("p", { class: "soft" }, "The proof follows when all buyers have finished."));
  fill(place, plot.element, counts, refused, result);
  for await (const now of lines(response)) {
    plot.add(now.ms, [now.sold, now.held]);
    const rows = [["Sold", now.sold], ["Held now", now.held], ["Walked away", now.walkedAway], ["Clicked twice", now.clickedTwice], ["Requests", now.requests], ["Finished", now.gone]];
    fill(counts,
      h("header", {}, h("h2", {}, "Counts"), code(now.code)),
      h("p", {}, h("span", { class: "big", id: "sold" }, number(now.sold)), ` of ${plural(now.coupons, "coupon")} sold to ${plural(now.buyers, "buyer")}`),
      bar({ used: now.sold, held: now.held }, now.coupons),
      h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, number(value))))));
    const reasons = Object.entries(now.refused).sort((a, b) => b[1] - a[1]);
    const most = Math.max(1, ...reasons.map(([, count]) => count));
    fill(refused, h("header", {}, h("h2", {}, "Refused"), now.proof && badge("finished", "info")),
      table("Refusals", [
        { name: "Reason", of: ([reason]) => h("span", { class: "code" }, reason) },
        { name: "Share", class: "bars", of: ([, count]) => bar({ no: count }, most) },
        { name: "Times", number: true, of: ([, count]) => number(count) },
      ], reasons, "No refusals yet."),
      h("p", { class: "hint" }, "coupon_locked: another buyer holds the last use; the request is repeated."));
    if (now.proof) fill(result, h("header", {}, h("h2", {}, "The proof")), proof(now.proof));
  }
}
