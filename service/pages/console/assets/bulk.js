// Changing many codes of a book: those that are picked, or all that the list's filter shows. It says how many first, shows how
// far it is, and can be stopped; what is done then stays done.

import { at, get, patch } from "./api.js";
import { ask, badge, fill, field, h, input, number, plural, select, table, tell, toast } from "./dom.js";

const AT_ONCE = 4;
const PAGE = 1000;
const MOST = 10_000;
const TRIES = 5;
const LONGEST_WAIT_S = 60;
const REFUSED_SHOWN = 20;

// What it is called, what it means, what it asks of a code, and what is told when it is done.
const ACTIONS = {
  off: ["Switch off", "They can't be locked, assigned or redeemed until they are switched on again.", () => ({ status: "inactive" }), "switched off"],
  on: ["Switch on", "They can be used again at once.", () => ({ status: "active" }), "switched on"],
  expire: ["Expire", "They can't be used any more from now on. Another end lets them be used again.", () => ({ expiresAt: new Date().toISOString() }), "expired"],
  until: ["Set the end of", "They can be used until then, if their book can.", (time) => ({ expiresAt: new Date(time).toISOString() }), "given an end"],
  endless: ["Take the end from", "They can be used as long as their book.", () => ({ expiresAt: null }), "without an end of their own"],
};

const sleep = (s) => new Promise((resolve) => { setTimeout(resolve, s * 1000); });

// After 429 and 503 it waits for the time in Retry-After.
async function change(code, said, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await patch(`/v1/coupons/${encodeURIComponent(code)}`, said);
    } catch (error) {
      if (error.retryAfterS === null || tries === TRIES || signal.aborted) throw error;
      await sleep(Math.min(error.retryAfterS, LONGEST_WAIT_S));
    }
  }
}

// A card with the progress and a button to cancel.
function progress(work, label) {
  const stop = new AbortController();
  const text = h("span", { role: "status" });
  const bar = h("progress", { max: 1, "aria-label": label });
  const button = h("button", { type: "button", onclick: () => stop.abort() }, "Cancel");
  fill(work, h("section", { class: "card", "aria-label": label }, h("div", { class: "row spread" }, text, button), bar,
    h("p", { class: "hint" }, "Leaving this page stops it, too. Completed changes are kept.")));
  const say = (words, share = null) => {
    text.textContent = words;
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
  };
  return { say, signal: stop.signal };
}

// The codes that match the filter, newest first, up to a limit; null if cancelled.
async function collect({ book, page, work, status }) {
  const { say, signal } = progress(work, "Counting codes");
  const codes = [];
  let cursor = null;
  try {
    do {
      say(`${plural(codes.length, "code")} so far`);
      const found = await get(at(`/v1/books/${book.bookId}/codes`, { limit: PAGE, cursor, status }), { signal: AbortSignal.any([signal, page.signal]) });
      codes.push(...found.items.map(({ code }) => code));
      cursor = found.nextCursor;
    } while (cursor && codes.length < MOST);
    return { codes: codes.slice(0, MOST), more: cursor !== null || codes.length > MOST };
  } catch (error) {
    if (signal.aborted) return null;
    throw error;
  } finally {
    fill(work);
  }
}

function summary(work, words, refused) {
  fill(work, h("section", { class: "card", "aria-label": "Result" },
    h("div", { class: "row spread" }, h("p", { role: "status" }, words), h("button", { type: "button", class: "quiet", onclick: () => fill(work) }, "Close")),
    refused.length > 0 && [
      table("Refused", [
        { name: "Code", of: ({ code }) => h("span", { class: "code" }, code) },
        { name: "Why", of: ({ error }) => [error.message, " ", badge(error.code, "warn")] },
      ], refused.slice(0, REFUSED_SHOWN)),
      refused.length > REFUSED_SHOWN && h("p", { class: "hint" }, `and ${number(refused.length - REFUSED_SHOWN)} more`),
    ]));
}

async function run(codes, action, time, { page, work, again }) {
  const [name, , make, past] = ACTIONS[action];
  const said = make(time);
  const { say, signal } = progress(work, `${name} ${plural(codes.length, "code")}`);
  const ended = () => signal.aborted || page.signal.aborted;
  const refused = [];
  let begun = 0;
  let done = 0;
  const next = async () => {
    while (begun < codes.length && !ended()) {
      const code = codes[begun++];
      await change(code, said, signal).catch((error) => refused.push({ code, error }));
      say(`${number(++done)} of ${plural(codes.length, "code")}`, done / codes.length);
    }
  };
  say(`0 of ${plural(codes.length, "code")}`, 0);
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  if (page.signal.aborted) return;
  const all = done === codes.length && refused.length === 0;
  const changed = `${plural(done - refused.length, "code")} ${done - refused.length === 1 ? "is" : "are"} ${past}`;
  if (all) fill(work);
  else summary(work, `${changed}, of ${number(codes.length)}${signal.aborted ? "; then it was cancelled" : ""}${refused.length ? `; ${number(refused.length)} refused` : ""}.`, refused);
  toast(`${changed}.`, all ? "good" : "bad");
  again();
}

async function begin(codes, which, more, around) {
  const chosen = select(Object.entries(ACTIONS).map(([key, [name]]) => [key, name]), which);
  const time = input({ type: "datetime-local", step: 1, required: true });
  const told = h("p", {});
  const ends = h("div");
  const label = () => `${ACTIONS[chosen.value][0]} ${plural(codes.length, "code")}`;
  const paint = (event) => {
    told.textContent = ACTIONS[chosen.value][1];
    fill(ends, chosen.value === "until" && field("They end", time));
    if (event) event.target.form.querySelector(".actions button:last-child").textContent = label();
  };
  chosen.addEventListener("change", paint);
  paint();
  const { book, status } = around;
  const of = `${plural(codes.length, "code")} of ${book.name}${status ? `, all that are ${status}` : ""}`;
  const done = await ask("Change codes", [
    h("p", {}, more ? `It touches the newest ${of}; then there are more.` : `It touches ${of}.`),
    field("What to do", chosen), ends, told,
  ], label(), async () => ({ action: chosen.value, time: time.value }), { danger: true });
  if (done) await run(codes, done.action, done.time, around);
}

// The column to pick by, and the buttons; `around` is { book, page, work, again, status }.
export function changing(around) {
  const picked = new Set();
  const some = h("button", { type: "button", disabled: true, onclick: () => begin([...picked], "off", false, { ...around, status: null }).catch(tell) });
  const all = h("button", { type: "button" }, around.status ? `Change all that are ${around.status}` : "Change all codes");
  all.addEventListener("click", async () => {
    all.disabled = true;
    try {
      const found = await collect(around);
      if (found?.codes.length === 0) toast("No codes match.");
      else if (found) await begin(found.codes, around.status === "inactive" ? "on" : "off", found.more, around);
    } catch (error) {
      tell(error);
    } finally {
      all.disabled = false;
    }
  });
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
