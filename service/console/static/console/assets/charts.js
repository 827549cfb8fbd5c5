// The overview's charts of the last hour or day, from the history that the service keeps.

import { h, number, refill, table } from "./dom.js";
import { bar, History } from "./plot.js";

const LOOK_MS = 10_000;
const SPANS = { hour: "Last hour", day: "Last day" };

// Each chart with its lines: how a series' values come from the answer, by step.
const perSecond = (values, step) => values.map((value) => (value == null ? null : value / (step / 1000)));
const sum = (one, other) => one.map((value, place) => (value == null ? null : value + other[place]));
const CHARTS = [
  { title: "Successful requests per second", series: [
    { name: "Redemptions", of: ({ done, step }) => perSecond(sum(done.redeemed, done.purchased), step) },
    { name: "Locks", of: ({ done, step }) => perSecond(done.locked, step) },
    { name: "Assignments", tone: 4, of: ({ done, step }) => perSecond(done.assigned, step) },
  ] },
  { title: "Refusals per second", series: [
    { name: "Refusals", tone: 2, of: ({ refused, step }) => perSecond(refused, step) },
    { name: "Server errors", tone: 3, of: ({ failed, step }) => perSecond(failed, step) },
  ] },
  { title: "Response time in ms", series: [
    { name: "Median", of: ({ p50Ms }) => p50Ms },
    { name: "99 % within", of: ({ p99Ms }) => p99Ms },
  ] },
  { title: "Events not recorded yet", scope: "operate", series: [
    { name: "Events", of: ({ backlog }) => backlog },
    { name: "Oldest, in seconds", drawn: false, of: ({ oldestMs }) => oldestMs.map((value) => value && value / 1000) },
  ] },
];

function refusals({ reasons }, span) {
  const most = Math.max(1, ...reasons.map(({ count }) => count));
  return table("Refusals by reason", [
    { name: "Reason", of: ({ code }) => h("span", { class: "code" }, code) },
    { name: SPANS[span], number: true, of: ({ count }) => number(count) },
    { name: "Share", class: "bars", of: ({ count }) => bar({ no: count }, most) },
    { name: "Status", number: true, of: ({ status }) => status },
  ], reasons, `No refusals in the ${SPANS[span].toLowerCase()}.`);
}

// Show the charts, and below them the refusals by reason. The address has the span, for a reload.
export function charts(page, query) {
  let span = query.get("span") in SPANS ? query.get("span") : "hour";
  const plots = CHARTS.filter(({ scope }) => !scope || page.may(scope)).map(({ title, series }) => ({ series, plot: new History(title, series) }));
  const reasons = h("div");
  const look = async () => {
    const asked = span;
    const now = await page.get(`/console/data/charts?span=${asked}`);
    if (asked !== span) return;
    for (const { series, plot } of plots) {
      const values = series.map(({ of }) => of(now));
      plot.show(now.refused.map((_, place) => ({ at: now.since + place * now.step, values: values.map((each) => each[place]) })), now.step, SPANS[span]);
    }
    refill(reasons, refusals(now, span));
  };
  const buttons = Object.entries(SPANS).map(([key, name]) => h("button", { type: "button", value: key, onclick: () => {
    span = key;
    history.replaceState(null, "", `#/?span=${key}`);
    press();
    look().catch((error) => page.freshness.fail(look, error));
  } }, name));
  const press = () => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.value === span)));
  press();
  const element = h("section", { class: "charts stack", "aria-label": "Charts" },
    h("div", { class: "row spread" },
      h("div", { class: "row", role: "group", "aria-label": "Span of the charts" }, buttons),
      h("p", { class: "hint" }, "Figures of this workspace. Shaded: no figures.")),
    h("div", { class: "cards" }, plots.map(({ plot }) => plot.element)),
    h("section", { class: "card" }, h("header", {}, h("h2", {}, "Refusals by reason")), reasons));
  return { element, begin: () => page.every(LOOK_MS, look) };
}
