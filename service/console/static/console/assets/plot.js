// Line charts over time, each with its figures as a table. What has no value is a gap, with a shade behind it.

import { fill, h, number, refill, table, zone } from "./dom.js";

const WIDTH = 480; // until it is laid out
const HEIGHT = 144;
const EDGE = { left: 44, right: 8, top: 10, bottom: 20 };
const ROWS = 12;
const MARK_PX = 90; // for each time below a chart, at least
const MINUTE_MS = 60_000;

export const round = (value) => (value == null || value >= 100 ? value && Math.round(value) : Math.round(value * 10) / 10);
const shown = (value) => number(round(value));
const short = (value) => (value < 10_000 ? shown(value) : value.toLocaleString("en", { notation: "compact" }));
const highest = (values) => values.reduce((top, value) => (value != null && (top == null || value > top) ? value : top), null);

function ceiling(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

// The hour and minute of a time.
function clock(ms) {
  const at = new Date(ms);
  return `${String(at.getHours()).padStart(2, "0")}:${String(at.getMinutes()).padStart(2, "0")}`;
}

// Stretches of points that pass a test, as [first, last] places.
function stretches(points, passes) {
  const made = [];
  points.forEach((point, place) => {
    if (!passes(point)) return;
    if (made.at(-1)?.[1] === place - 1) made.at(-1)[1] = place;
    else made.push([place, place]);
  });
  return made;
}

class Chart {
  // `series` are { name, drawn: whether it has a line, tone: its color }; points are { at (ms), values }.
  constructor(title, series) {
    Object.assign(this, { title, series, points: [], width: 0 });
    this.drawing = h("div", { class: "drawing" });
    this.legend = h("ul", { class: "legend" });
    this.behind = h("details", { ontoggle: () => this.list() }, h("summary", {}, "As a table"), h("div"));
    this.element = h("section", { class: "card" }, h("header", {}, h("h2", {}, title), this.legend), this.drawing, this.behind);
    new ResizeObserver(() => this.drawing.clientWidth !== this.width && this.draw()).observe(this.drawing);
  }

  // Draw what is between two times; `marks` are the texts below, from left to right.
  drawBetween(from, until, marks, label, capacity = null) {
    const { points, series } = this;
    const wide = (this.width = this.drawing.clientWidth) || WIDTH;
    const lines = series.flatMap(({ drawn = true }, which) => (drawn ? [which] : []));
    const top = ceiling(Math.max(capacity ?? 0, 0, ...points.flatMap(({ values }) => lines.map((which) => values[which] ?? 0))));
    const inner = { width: wide - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
    const x = (at) => EDGE.left + ((at - from) / (until - from)) * inner.width;
    const y = (value) => EDGE.top + inner.height * (1 - value / top);
    const level = (value, name) => h("line", { class: name, x1: EDGE.left, x2: wide - EDGE.right, y1: y(value), y2: y(value) });
    const grid = [0, top / 2, top].map((value) => [
      level(value, "grid"), h("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)),
    ]);
    const end = (place) => points[place + 1]?.at ?? until;
    const gaps = stretches(points, ({ values }) => lines.every((which) => values[which] == null)).map(([first, last]) =>
      h("rect", { class: "gap", x: x(points[first].at), y: EDGE.top, width: x(end(last)) - x(points[first].at), height: inner.height }));
    const place = ({ at, values }, which) => `${x(at).toFixed(1)},${y(values[which]).toFixed(1)}`;
    const drawn = lines.flatMap((which) => stretches(points, ({ values }) => values[which] != null).map(([first, last]) =>
      // one point alone is a dot: a line from it to itself
      h("polyline", { class: this.#tone(which), points: [...points.slice(first, last + 1), points[last]].map((point) => place(point, which)).join(" ") })));
    const fit = [marks, marks.filter((_, number) => number % 2 === 0), [marks[0], marks.at(-1)]].find((some) => some.length * MARK_PX <= inner.width || some.length <= 2);
    const below = fit.map((text, number) => h("text", {
      x: EDGE.left + (inner.width * number) / (fit.length - 1), y: HEIGHT - 4, "text-anchor": ["start", "end"][[0, fit.length - 1].indexOf(number)] ?? "middle",
    }, text));
    fill(this.drawing,
      h("svg", { class: "plot", viewBox: `0 0 ${wide} ${HEIGHT}`, role: "img", "aria-label": `${this.title}: ${label}` },
        gaps, grid, capacity != null && level(capacity, "capacity"), drawn, below));
    fill(this.legend, series.map(({ name, drawn: hasLine = true }, which) =>
      h("li", {}, hasLine && h("svg", { viewBox: "0 0 16 10", "aria-hidden": "true" }, h("line", { class: this.#tone(which), x1: 0, x2: 16, y1: 5, y2: 5 })),
        `${name} `, h("b", {}, shown(this.figure(which))))));
    this.list();
  }

  // The figure of a series in the legend.
  figure(which) {
    return this.points.at(-1)?.values[which];
  }

  #tone(which) {
    return `s${this.series[which].tone ?? which + 1}`;
  }

  listRows(caption, time, rows) {
    const columns = this.series.map(({ name }, which) => ({ name, number: true, of: ({ values }) => shown(values[which]) }));
    refill(this.behind.lastChild, table(caption, [time, ...columns], rows, "No figures yet."));
  }
}

// Points that come one by one, over seconds from the first; at most `most` are kept.
export class Plot extends Chart {
  constructor(title, series, { most, seconds, capacity = null }) {
    super(title, series);
    Object.assign(this, { most, seconds, capacity });
    this.draw();
  }

  add(at, values) {
    this.points.push({ at, values });
    if (this.points.length > this.most) this.points.shift();
    this.draw();
  }

  draw() {
    const first = this.points[0]?.at ?? 0;
    const last = this.points.at(-1);
    const span = Math.max((last?.at ?? 0) - first, this.seconds * 1000);
    const now = this.series.map(({ name }, which) => `${name} ${shown(last?.values[which] ?? 0)}`).join(", ");
    this.drawBetween(first, first + span, ["0 s", `${Math.round(span / 1000)} s`], now, this.capacity);
  }

  list() {
    if (!this.behind.open) return;
    const step = Math.max(1, Math.floor(this.points.length / ROWS));
    const rows = this.points.filter((_, place) => (this.points.length - 1 - place) % step === 0).reverse();
    const start = this.points[0]?.at ?? 0;
    this.listRows(this.title, { name: "Seconds", of: ({ at }) => round((at - start) / 1000) }, rows);
  }
}

// A span of time that ends about now; all points come at once.
export class History extends Chart {
  show(points, step, label) {
    Object.assign(this, { points, step, label });
    this.draw();
  }

  draw() {
    const { points, series } = this;
    if (points.length === 0) return;
    const from = points[0].at;
    const until = points.at(-1).at + this.step;
    const marks = [0, 1, 2, 3, 4].map((part) => clock(from + (part * (until - from)) / 4));
    marks[4] += ` ${zone(new Date(until))}`;
    const figures = series.map(({ name }, which) =>
      `${name} ${shown(points.at(-1).values[which])}, highest ${shown(highest(points.map(({ values }) => values[which])))}`);
    this.drawBetween(from, until, marks, `${this.label}. ${figures.join("; ")}`);
  }

  // The highest values of each twelfth.
  list() {
    if (!this.behind.open || this.points.length === 0) return;
    const many = Math.ceil(this.points.length / ROWS);
    const rows = [];
    for (let from = 0; from < this.points.length; from += many) {
      const some = this.points.slice(from, from + many);
      rows.unshift({ at: some[0].at, values: this.series.map((_, which) => highest(some.map(({ values }) => values[which]))) });
    }
    const minutes = (many * this.step) / MINUTE_MS;
    this.listRows(`${this.title}: highest of ${minutes} minutes`, { name: `From (${zone(new Date())})`, of: ({ at }) => clock(at) }, rows);
  }
}

// Sums of intervals, all at once. `name` writes an interval's beginning.
export class Sums extends Chart {
  show(points, until, name) {
    Object.assign(this, { points, until, name });
    this.draw();
  }

  figure(which) {
    return this.points.reduce((sum, { values }) => sum + (values[which] ?? 0), 0);
  }

  draw() {
    const { points, series, until, name } = this;
    if (points.length === 0) return;
    const marks = [0, 1, 2, 3, 4].map((part) => name(points[Math.floor((part * (points.length - 1)) / 4)].at));
    const label = series.map((one, which) => `${one.name} ${shown(this.figure(which))}`).join(", ");
    this.drawBetween(points[0].at, points.length > 1 ? points.at(-1).at : until, [...new Set(marks)].length > 1 ? marks : [marks[0], ""], label);
  }

  list() {
    if (this.behind.open) this.listRows(this.title, { name: "From", of: ({ at }) => this.name(at) }, [...this.points].reverse());
  }
}

// What stands at the end of intervals, all at once.
export class Levels extends Sums {
  figure(which) {
    return this.points.at(-1)?.values[which];
  }
}

// Parts of a whole, { class: value }, as one bar; the figures stand beside it, so it is nothing to a screen reader.
export function bar(parts, whole) {
  let from = 0;
  return h("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("rect", { class: "of", width: 100, height: 6 }),
    Object.entries(parts).map(([name, part]) => {
      const width = whole ? (100 * part) / whole : 0;
      const drawn = h("rect", { class: name, x: from, width, height: 6 });
      from += width;
      return drawn;
    }));
}

// What a bar of coupons is made of, and the words for it.
export const stock = ({ available, locked, assigned, redeemed, exhausted, inactive, expired, codes }) =>
  bar({ free: available, held: locked, owned: assigned, used: redeemed + exhausted, off: inactive + expired }, codes);

export const stockWords = () => h("span", { class: "words" }, ["Available", "Held", "Assigned", "Redeemed or used up", "Switched off or ended"].map((name, which) =>
  h("span", {}, h("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, h("rect", { class: ["free", "held", "owned", "used", "off"][which], width: 10, height: 10, rx: 3 })), name)));
