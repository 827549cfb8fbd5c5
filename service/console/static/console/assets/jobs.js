// Jobs and their progress.

import { at } from "./api.js";
import { badge, byActor, duration, fileFormats, fill, h, head, number, refill, table, when } from "./dom.js";
import { controls, isUnfinished, outcome } from "./following.js";

const LOOK_MS = 1000;
const SHOWN = 50;

const took = (job) => duration((job.finishedAt ? new Date(job.finishedAt) : new Date()) - new Date(job.startedAt));

export async function show(main, _, page) {
  const place = h("div");
  fill(main, head("Jobs", `The newest ${SHOWN}; live.`, h("span", { class: "hint" }, "Results as"), fileFormats()), place);
  const look = async () => {
    const { items } = await page.get(at("/console/data/jobs", { limit: SHOWN }));
    refill(place, table("Jobs", [
      { name: "Started", of: (job) => when(job.startedAt) },
      { name: "Kind", class: "long", of: (job) => [job.kind, h("div", { class: "hint" }, byActor(job))] },
      { name: "Book", class: "long", of: (job) => (job.bookId ? h("a", { href: `#/book/${job.bookId}` }, job.bookName) : "–") },
      { name: "Status", of: (job) => badge(job.status) },
      { name: "Progress", class: "bars", of: (job) => {
        const text = `${number(job.done)} of ${number(job.requested)}`;
        return [h("progress", { max: Math.max(job.requested, 1), value: job.done, "aria-label": text }), h("div", { class: "hint" }, text)];
      } },
      { name: "Took", number: true, of: took },
      { name: "Result", class: "long", of: (job) => [job.change && (job.change.changed > 0 || !isUnfinished(job)) && outcome(job), ...job.errors].filter(Boolean).join(" ") },
      { name: "Actions", hidden: true, of: (job) => h("span", { class: "row" }, controls(job, look)) },
    ], items, "No jobs yet."));
  };
  await page.every(LOOK_MS, look);
}
