// How old a page's data is, and whether the service still answers.

import { when, words } from "./dom.js";

const PAINT_MS = 1000;
const MINUTE_S = 60;

const by = (id) => document.getElementById(id);

export class Freshness {
  #failing = new Set(); // tasks whose last request failed
  #at = null;

  constructor(signal) {
    this.#paint();
    by("stale").textContent = "";
    const timer = setInterval(() => this.#paint(), PAINT_MS);
    signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  // A task, or a single request, got its data. While another task fails, the data stays as old as it was.
  succeed(task = null) {
    this.#failing.delete(task);
    if (this.#failing.size > 0) return;
    this.#at = Date.now();
    by("stale").textContent = "";
    this.#paint();
  }

  fail(task, error) {
    this.#failing.add(task);
    const reason = error.status ? words(error) : "The service can't be reached.";
    const text = this.#at ? `${reason} The figures are those of ${when(new Date(this.#at).toISOString()).textContent}.` : reason;
    if (by("stale").textContent !== text) by("stale").textContent = text; // a new text is read aloud
  }

  #paint() {
    const s = Math.round((Date.now() - this.#at) / 1000);
    by("updated").textContent = this.#at === null ? "" : `Updated ${s < MINUTE_S ? `${s} s` : `${Math.floor(s / MINUTE_S)} min`} ago`;
  }
}
