// Changing many codes of a book: those of a filter, or of a list, which is what is picked. It says how many and what becomes of
// them first; the server does it as a job.

import { at, ask as request, post } from "./api.js";
import { ask, choices, field, h, input, inZone, number, plural, select, showErrors, statusWord, tell } from "./dom.js";
import { follow } from "./following.js";

export const STATUSES = ["available", "assigned", "redeemed", "exhausted", "inactive", "expired"];
const COUNT_MS = 300; // after the last key
const FILE_MS = 300_000;
const WHICH = [["filter", "All that match"], ["list", "Those in a list"]];

// Name, meaning, and the request.
const ACTIONS = {
  off: ["Switch off", "They can't be locked, assigned or redeemed until they are switched on again.", () => ({ action: "switchOff" })],
  on: ["Switch on", "They can be used again at once.", () => ({ action: "switchOn" })],
  expire: ["Expire", "They can't be used any more from now on. Another end lets them be used again. The book still counts them as available.", () => ({ action: "expire" })],
  until: ["Set the end of", "They can be used until then, if their book can.", (time) => ({ action: "setExpiry", expiresAt: time })],
  endless: ["Take the end from", "They can be used as long as their book.", () => ({ action: "setExpiry", expiresAt: null })],
  assign: ["Assign", "Each user gets one of the codes that are available.", (_, users) => ({ action: "assign", users })],
  release: ["Release", "Those that are assigned are taken from their users, unless a use is locked or spent.", () => ({ action: "release" })],
};

// The status that an action needs.
const NEEDED = { assign: "available", release: "assigned" };

const split = ({ value }) => [...new Set(value.split(/[\s,;]+/).filter(Boolean))];
const time = (control) => (control.value ? new Date(control.value).toISOString() : null);
const moment = (name, attributes) => input({ name, type: "datetime-local", step: 1, ...attributes });
const list = (name, attributes) => h("textarea", { name, spellcheck: "false", rows: 4, ...attributes });

// Controls for which codes. `read(needed)` returns their filter; of codes that must have a status, that one.
function selection({ codes, status }) {
  const which = select(WHICH, codes.length ? "list" : "filter");
  const statuses = STATUSES.map((one) => [one, input({ type: "checkbox", checked: one === status })]);
  const prefix = input({ name: "filter.prefix", maxlength: 64, class: "code" });
  const from = moment("filter.createdFrom");
  const until = moment("filter.createdUntil");
  const named = list("filter.codes", { class: "code", value: codes.join("\n") });
  const box = choices("Status", "filter.status", h("div", { class: "row" }, statuses.map(([one, control]) => field(statusWord(one), control))));
  const boxed = h("div", { class: "wide" }, box);
  const match = h("div", { class: "form" }, boxed,
    h("div", { class: "wide" }, field("Begin with", prefix)), field("Added from", from, inZone()), field("Added until", until, inZone()));
  const listed = field("Codes", named, "One a line, or separated by commas; at most 1,000.");
  return {
    place: [field("Which codes", which), match, listed],
    paint(needed) {
      match.hidden = which.value === "list";
      listed.hidden = !match.hidden;
      boxed.hidden = Boolean(needed);
    },
    isList: () => which.value === "list",
    read(needed) {
      if (which.value === "list") return { codes: split({ value: named.value.toUpperCase() }) };
      const chosen = needed ? [needed] : statuses.filter(([, control]) => control.checked).map(([one]) => one);
      return { status: chosen.length ? chosen : null, prefix: prefix.value.trim() || null, createdFrom: time(from), createdUntil: time(until) };
    },
  };
}

async function begin(chosen, { book, page, work, again }) {
  const path = `/v1/books/${book.bookId}/codes/change`;
  const offered = select(Object.entries(ACTIONS).map(([key, [name]]) => [key, name]), chosen.status === "inactive" ? "on" : "off");
  const codes = selection(chosen);
  const end = moment("expiresAt");
  const users = list("users");
  const ending = field("They end", end, inZone());
  const file = input({ type: "file", accept: ".csv,.tsv,.txt,text/csv,text/plain" });
  const listing = field("Users", users, "One a line, or separated by commas; at most 1,000.");
  const filing = field("Or a file of users", file, "CSV with a column userId, or a text with one a line; up to 100,000.");
  const column = input({ name: "userColumn", maxlength: 100 });
  const naming = field("User column", column, "Its name in the first line, if it is not userId.");
  const assigning = h("div", { class: "form" }, listing, filing, naming);
  const meaning = h("p", {});
  const found = h("p", { role: "status", class: "hint" });
  let counted = null; // of the codes that are chosen now
  let counting = new AbortController();
  let timer = 0;

  const needed = () => NEEDED[offered.value];
  const usesFile = () => offered.value === "assign" && !filing.hidden && file.files.length > 0;
  const receivers = () => (usesFile() ? counted?.users ?? 0 : split(users).length);
  // A file of users has its filter in the query.
  const send = (filter, dryRun, signal) => {
    const { status: _, ...chosen } = filter;
    const [body] = file.files;
    return request("POST", at(path, { ...chosen, userColumn: column.value.trim(), dryRun: dryRun || null }), { body, type: /\.txt$/i.test(body.name) ? "text/plain" : "text/csv", timeoutMs: FILE_MS, signal })
      .then((response) => response.json());
  };
  const many = () => `${counted.isComplete ? "" : "at least "}${plural(counted.matching, "code")}`;
  const label = () => {
    const assigns = offered.value === "assign";
    if (!counted || (assigns && receivers() === 0)) return ACTIONS[offered.value][0];
    const served = counted.isComplete ? Math.min(receivers(), counted.matching) : receivers();
    return assigns ? `Assign a code to ${served < receivers() ? `${number(served)} of ` : ""}${plural(receivers(), "user")}` : `${ACTIONS[offered.value][0]} ${many()}`;
  };
  const examples = () => (counted.examples.length ? `, such as ${counted.examples.slice(0, 3).join(", ")}` : "");
  const paint = (dialog) => {
    const left = counted && counted.isComplete && offered.value === "assign" ? receivers() - counted.matching : 0;
    codes.paint(needed());
    ending.hidden = offered.value !== "until";
    end.required = !ending.hidden;
    assigning.hidden = offered.value !== "assign";
    filing.hidden = codes.isList();
    listing.hidden = usesFile();
    naming.hidden = !usesFile();
    [users.name, file.name] = usesFile() ? ["", "users"] : ["users", ""]; // the one that shows what the server refuses
    meaning.textContent = ACTIONS[offered.value][1];
    const absent = counted && counted.isComplete && codes.isList() ? codes.read().codes.length - counted.matching : 0;
    found.textContent = counted ? [
      `${many()} of ${book.name} ${counted.matching === 1 ? "matches" : "match"}${examples()}.`,
      absent > 0 && `${number(absent)} of the list ${absent === 1 ? "does" : "do"} not.`,
      left > 0 && `${plural(left, "user")} will get none.`,
    ].filter(Boolean).join(" ") : "Counting the codes …";
    const go = dialog.querySelector(".actions button:last-child");
    dialog.querySelector("h2").textContent = go.textContent = label();
    go.disabled = !counted?.matching || (offered.value === "assign" && receivers() === 0);
  };
  const count = async (dialog) => {
    counting.abort();
    counting = new AbortController();
    const { signal } = counting;
    const form = dialog.querySelector("form");
    try {
      const filter = codes.read(needed());
      const result = filter.codes?.length === 0 ? { matching: 0, isComplete: true, examples: [] }
        : usesFile() ? await send(filter, true, signal)
        : await post(`${path}?dryRun=true`, { action: "switchOff", filter }, { signal });
      if (signal.aborted) return;
      counted = result;
      showErrors(form, null);
      paint(dialog);
    } catch (error) {
      if (signal.aborted) return;
      found.textContent = showErrors(form, error, false) || "Correct what is marked.";
    }
  };
  const asked = ask("Change codes", [h("div", { class: "stack" }, codes.place), field("What to do", offered), meaning, ending, assigning, found], "Change",
    () => (usesFile() ? send(codes.read(needed()), false) : post(path, { ...ACTIONS[offered.value][2](time(end), split(users)), filter: codes.read(needed()) })), { danger: true });
  const dialog = document.getElementById("dialog");
  dialog.querySelector("form").addEventListener("input", ({ target }) => {
    if (target !== users && target !== end) {
      clearTimeout(timer);
      counting.abort(); // what it counts is no longer chosen
      counted = null;
      timer = setTimeout(count, COUNT_MS, dialog);
    }
    paint(dialog);
  });
  paint(dialog);
  count(dialog);
  const job = await asked;
  clearTimeout(timer);
  counting.abort();
  if (job) follow(job, page, work, again);
}

// The column to pick by, and what is beside the list; `around` is { book, page, list, work, again, status }.
export function changing(around) {
  const picked = new Set();
  let last = null; // the code that was clicked last
  const shown = () => [...around.list.querySelectorAll("td.pick input")];
  const all = input({ type: "checkbox" });
  const start = h("button", { type: "button", onclick: () => begin({ codes: [...picked], status: around.status }, around).catch(tell) });
  const paint = () => {
    start.textContent = picked.size ? `Change ${plural(picked.size, "picked code")}` : "Change codes";
    all.checked = picked.size > 0 && shown().every(({ value }) => picked.has(value));
    all.indeterminate = picked.size > 0 && !all.checked;
  };
  const pick = (boxes, checked) => {
    for (const box of boxes) {
      box.checked = checked;
      picked[checked ? "add" : "delete"](box.value);
    }
    paint();
  };
  all.addEventListener("click", () => pick(shown(), all.checked));
  const click = ({ target, shiftKey }) => {
    const boxes = shown();
    const [from, to] = [boxes.findIndex(({ value }) => value === last), boxes.indexOf(target)].sort((one, other) => one - other);
    pick(shiftKey && from >= 0 ? boxes.slice(from, to + 1) : [target], target.checked);
    last = target.value;
  };
  const column = { name: "Pick", hidden: true, class: "pick", of: (row) =>
    input({ type: "checkbox", value: row.code, "aria-label": `Pick ${row.code}`, title: "With Shift: all from the one clicked before", checked: picked.has(row.code), onclick: click }) };
  paint();
  return [column, h("div", { class: "row" }, field("Pick all that are shown", all), start)];
}
