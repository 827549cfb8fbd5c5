// Changing many codes of a book: those that are picked, or all that the list's filter shows. It says how many first; the server
// does it as a job.

import { post } from "./api.js";
import { ask, busy, field, fill, h, input, plural, select, tell, toast } from "./dom.js";
import { follow } from "./following.js";

// Name, meaning, and the request.
const ACTIONS = {
  off: ["Switch off", "They can't be locked, assigned or redeemed until they are switched on again.", () => ({ action: "switchOff" })],
  on: ["Switch on", "They can be used again at once.", () => ({ action: "switchOn" })],
  expire: ["Expire", "They can't be used any more from now on. Another end lets them be used again.", () => ({ action: "expire" })],
  until: ["Set the end of", "They can be used until then, if their book can.", (time) => ({ action: "setExpiry", expiresAt: new Date(time).toISOString() })],
  endless: ["Take the end from", "They can be used as long as their book.", () => ({ action: "setExpiry", expiresAt: null })],
  assign: ["Assign", "Each user gets one of those that are available.", (_, users) => ({ action: "assign", users })],
  release: ["Release", "Those that are assigned are taken from their users, unless a use is locked or spent.", () => ({ action: "release" })],
};

// The status that an action needs.
const NEEDED = { assign: "available", release: "assigned" };

const changeOf = (book) => `/v1/books/${book.bookId}/codes/change`;

async function begin(which, filter, { matching, isComplete }, { book, page, work, again }) {
  const { status } = filter;
  const offered = Object.entries(ACTIONS).filter(([key]) => !NEEDED[key] || !status || status[0] === NEEDED[key]);
  const chosen = select(offered.map(([key, [name]]) => [key, name]), which);
  const time = input({ type: "datetime-local", step: 1, required: true });
  const lines = h("textarea", { required: true, spellcheck: "false", rows: 4, oninput: (event) => paint(event) });
  const meaning = h("p", {});
  const more = h("div");
  const users = () => [...new Set(lines.value.split(/\s+/).filter(Boolean))];
  const many = `${isComplete ? "" : "at least "}${plural(matching, "code")}`;
  const label = () => (chosen.value === "assign" ? `Assign to ${plural(users().length, "user")}` : `${ACTIONS[chosen.value][0]} ${many}`);
  const paint = (event) => {
    meaning.textContent = ACTIONS[chosen.value][1];
    if (event?.target !== lines) fill(more, chosen.value === "until" && field("They end", time), chosen.value === "assign" && field("Users, one a line", lines));
    if (event) event.target.form.querySelector(".actions button:last-child").textContent = label();
  };
  chosen.addEventListener("change", paint);
  paint();
  const job = await ask("Change codes", [
    h("p", {}, `This changes ${many} of ${book.name}${status ? `, all that are ${status[0]}` : ""}.`),
    field("What to do", chosen), more, meaning,
  ], label(), () => post(changeOf(book), { ...ACTIONS[chosen.value][2](time.value, users()), filter }), { danger: true });
  if (job) follow(job, page, work, again);
}

// The column to pick by, and the buttons; `around` is { book, page, work, again, status }.
export function changing(around) {
  const picked = new Set();
  const start = (button, which, filter) => busy([button], async () => {
    const counted = await post(`${changeOf(around.book)}?dryRun=true`, { action: "switchOff", filter }, { signal: around.page.signal });
    if (counted.matching === 0) toast("No codes match.");
    else await begin(which, filter, counted, around);
  }).catch(tell);
  const { status } = around;
  const some = h("button", { type: "button", disabled: true, onclick: () => start(some, "off", { codes: [...picked] }) });
  const all = h("button", { type: "button", onclick: () => start(all, status === "inactive" ? "on" : "off", status ? { status: [status] } : {}) },
    status ? `Change all that are ${status}` : "Change all codes");
  const paint = () => {
    some.textContent = `Change ${plural(picked.size, "picked code")}`;
    some.disabled = picked.size === 0;
  };
  const column = { name: "Pick", hidden: true, class: "pick", of: (row) => h("input", {
    type: "checkbox", "aria-label": `Pick ${row.code}`, checked: picked.has(row.code),
    onchange: (event) => { picked[event.target.checked ? "add" : "delete"](row.code); paint(); },
  }) };
  paint();
  return [column, h("div", { class: "row" }, some, all)];
}
