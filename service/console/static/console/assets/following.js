// A job as it goes: progress, pause, resume, cancel, and what it has done.

import { get, post } from "./api.js";
import { badge, fileLink, h, number, plural, refill, tell, toast } from "./dom.js";

const LOOK_MS = 500;
const DONE = { switchOff: "switched off", switchOn: "switched on", expire: "expired", assign: "assigned", release: "released" };

export const isUnfinished = (job) => job.status === "running" || job.status === "paused";

// What a job has done, in words: "60 codes are switched off."
export function outcome(job) {
  if (!job.change) return job.kind === "generate" ? `${plural(job.done, "code")} ${job.done === 1 ? "was" : "were"} generated.` : "";
  const { action, changed, refused, expiresAt } = job.change;
  const done = DONE[action] ?? (expiresAt ? "given an end" : "without an end of their own");
  return `${plural(changed, "code")} ${changed === 1 ? "is" : "are"} ${done}.${refused ? ` ${number(refused)} refused.` : ""}`;
}

// Buttons for a job that changes codes, and the address of its results; `changed` gets the job after a click.
export function controls(job, changed) {
  if (!job.change) return [];
  const path = `/v1/jobs/${job.jobId}`;
  const button = (label, verb) => h("button", { type: "button", "data-first": verb !== "cancel", onclick: (event) => {
    event.target.disabled = true;
    post(`${path}/${verb}`, {}).then(changed).catch(tell);
  } }, label);
  return [
    job.status === "running" && button("Pause", "pause"), job.status === "paused" && button("Resume", "resume"),
    isUnfinished(job) && button("Cancel", "cancel"),
    fileLink(`${path}/results.csv`, "Results"),
  ];
}

// Show a job until it ends or the page is left; then `ended` is called.
export function follow(job, page, place, ended = () => {}) {
  const [label, bar] = job.change ? ["Changing codes", "Examined"] : ["Generating", "Generated"];
  const look = (now) => {
    job = now;
    const { changed, unchanged, refused } = job.change ?? {};
    refill(place, h("div", { class: "card", role: "group", "aria-label": label },
      h("div", { class: "row spread" },
        h("span", { role: "status" }, job.change?.action === "assign" ? `${number(job.done)} of ${plural(job.requested, "user")}`
          : [`${number(job.done)} of ${plural(job.requested, "code")}`, job.change && " examined"]),
        h("span", { class: "row" }, badge(job.status), controls(job, look))),
      h("progress", { max: 1, value: job.requested ? job.done / job.requested : 1, "aria-label": bar }),
      job.change && h("p", { class: "hint" }, `${number(changed)} changed, ${number(unchanged)} had been so before, ${number(refused)} refused. `,
        isUnfinished(job) && "It goes on when this page is left: see Jobs."),
      job.errors.map((error) => h("p", { class: "error" }, error))));
  };
  const watch = async () => {
    if (page.signal.aborted) return;
    if (!isUnfinished(job)) {
      if (job.status === "done") toast(outcome(job), job.change?.refused ? "bad" : "good");
      ended();
      return;
    }
    if (!document.hidden) look(await get(`/v1/jobs/${job.jobId}`).catch((error) => (tell(error), job)));
    setTimeout(watch, LOOK_MS);
  };
  look(job);
  watch();
}
