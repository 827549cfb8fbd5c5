// Line charts over time, each with its figures as a table.

import { fill, h, number, table, when } from "./dom.js";

const WIDTH = 480; // until it is laid out
const HEIGHT = 144;
const EDGE = { left: 44, right: 8, top: 10, bottom: 20 };
const ROWS = 12;
const LEAST_S = 60;

const round = (value) => (value >= 100 ? Math.round(value) : Math.round(value * 10) / 10);

function ceiling(value) {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

// `series` are { name, unit }; points are added as { at (ms), values }, at most `most` are kept.
export class Plot {
  constructor(title, series, { most = 120, capacity = null, seconds = null } = {}) {
    Object.assign(this, { title, series, most, capacity, seconds, points: [], drawn: 0 });
    this.element = h("section", { class: "card" });
    this.drawing = h("div");
    this.legend = h("ul", { class: "legend" });
    this.behind = h("details", { ontoggle: () => this.#list() }, h("summary", {}, "As a table"), h("div"));
    this.element.append(h("header", {}, h("h2", {}, title), this.legend), this.drawing, this.behind);
    this.draw();
    new ResizeObserver(() => this.drawing.clientWidth !== this.drawn && this.draw()).observe(this.drawing);
  }

  add(at, values) {
    this.points.push({ at, values });
    if (this.points.length > this.most) this.points.shift();
    this.draw();
  }

  draw() {
    const { points, series } = this;
    const last = points.at(-1);
    const wide = (this.drawn = this.drawing.clientWidth) || WIDTH;
    const span = Math.max((last?.at ?? 0) - (points[0]?.at ?? 0), (this.seconds ?? LEAST_S) * 1000);
    const first = this.seconds ? points[0]?.at ?? 0 : (last?.at ?? 0) - span; // what is live ends at the right
    const top = ceiling(Math.max(this.capacity ?? 0, ...points.flatMap(({ values }) => values), 0));
    const inner = { width: wide - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
    const x = (at) => EDGE.left + ((at - first) / span) * inner.width;
    const y = (value) => EDGE.top + inner.height * (1 - value / top);
    const grid = [0, top / 2, top].map((value) => [
      h("line", { class: "grid", x1: EDGE.left, x2: wide - EDGE.right, y1: y(value), y2: y(value) }),
      h("text", { x: EDGE.left - 6, y: y(value) + 4, "text-anchor": "end" }, number(round(value))),
    ]);
    const lines = series.map((_, which) =>
      h("polyline", {
        class: `s${which + 1}`,
        points: points.map(({ at, values }) => `${x(at).toFixed(1)},${y(values[which]).toFixed(1)}`).join(" "),
      }));
    const capacity = this.capacity != null &&
      h("line", { class: "capacity", x1: EDGE.left, x2: wide - EDGE.right, y1: y(this.capacity), y2: y(this.capacity) });
    const now = series.map(({ name }, which) => `${name} ${number(round(last?.values[which] ?? 0))}`).join(", ");
    const length = Math.round(span / 1000);
    fill(this.drawing,
      h("svg", { class: "plot", viewBox: `0 0 ${wide} ${HEIGHT}`, role: "img", "aria-label": `${this.title}: ${now}` },
        grid, capacity, lines,
        h("text", { x: EDGE.left, y: HEIGHT - 4 }, this.seconds ? "0 s" : `${length} s ago`),
        h("text", { x: wide - EDGE.right, y: HEIGHT - 4, "text-anchor": "end" }, this.seconds ? `${length} s` : "now")));
    fill(this.legend, series.map(({ name }, which) =>
      h("li", {}, h("svg", { viewBox: "0 0 16 10", "aria-hidden": "true" }, h("line", { class: `s${which + 1}`, x1: 0, x2: 16, y1: 5, y2: 5 })),
        `${name} `, h("b", {}, number(round(last?.values[which] ?? 0))))));
    this.#list();
  }

  #list() {
    if (!this.behind.open) return;
    const step = Math.max(1, Math.floor(this.points.length / ROWS));
    const rows = this.points.filter((_, place) => (this.points.length - 1 - place) % step === 0).reverse();
    const start = this.points[0]?.at ?? 0;
    const time = { name: this.seconds ? "Seconds" : "Time", of: ({ at }) => (this.seconds ? round((at - start) / 1000) : when(new Date(at).toISOString())) };
    const columns = this.series.map(({ name }, which) => ({ name, number: true, of: ({ values }) => number(round(values[which])) }));
    fill(this.behind.lastChild, table(this.title, [time, ...columns], rows, "No figures yet."));
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
export const stock = ({ available, locked, assigned, redeemed, exhausted, inactive, codes }) =>
  bar({ free: available, held: locked, owned: assigned, used: redeemed + exhausted, off: inactive }, codes);

export const stockWords = () => h("span", { class: "words" }, ["Available", "Held", "Assigned", "Redeemed or used up", "Switched off"].map((name, which) =>
  h("span", {}, h("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, h("rect", { class: ["free", "held", "owned", "used", "off"][which], width: 10, height: 10, rx: 3 })), name)));
