// Everything at one glance, asked for every second while the page can be seen.

import { post } from "./api.js";
import { charts } from "./charts.js";
import { ask, badge, bookState, bytes, card, field, fill, h, head, input, money, number, plural, refill, table, toast, when } from "./dom.js";
import { stock, stockWords } from "./plot.js";
import { quarantine } from "./quarantine.js";

const ASK_MS = 1000;
const OPERATORS_MS = 2000;

function reconciled(consistency, none) {
  if (!consistency) return ["–", none];
  if (!consistency.lastReconciledAt) return ["never", "no reconciliation has run"];
  const drift = Object.values(consistency.drift).reduce((sum, count) => sum + count, 0);
  return [drift === 0 ? "No drift" : plural(drift, "difference"), when(consistency.lastReconciledAt)];
}

function facts(overview, consistency, may) {
  const { redis, postgres } = overview;
  const none = may ? "" : "needs the scope operate";
  const gate = redis.gate || (redis.connected ? "closed" : "unreachable");
  const [drift, driftAt] = reconciled(consistency, none);
  const rows = [
    ["Gate", badge(gate, { open: "good", full: "warn", behind: "warn" }[gate] ?? "bad"), `epoch ${redis.epoch}`],
    ["Not recorded yet", consistency ? number(consistency.lagEvents) : "–", consistency ? `${consistency.lagSeconds.toFixed(2)} s behind` : none],
    ["Redis", redis.server ?? "unreachable", redis.server &&
      `${bytes(redis.usedBytes)}${redis.maxBytes ? ` of ${bytes(redis.maxBytes)}` : ""}, ${redis.fsynced ? "fsynced before each answer" : "not fsynced before each answer"}`],
    ["Postgres", postgres.version ? `Postgres ${postgres.version.split(" ")[0]}` : "unreachable", postgres.version &&
      `${bytes(postgres.databaseBytes)}, ${plural(postgres.connections, "connection")}`],
    ["Reconciliation", drift, driftAt],
  ];
  return h("dl", { class: "facts" }, rows.map(([name, value, more]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, value, more && h("small", {}, more)))));
}

// The workspace's partition with what it has not recorded, and those that are not open or have no worker.
function partitions({ partitions: all, open, shown }, consistency) {
  const own = ({ id }) => id === shown[0].id;
  return [
    h("p", {}, `${number(open)} of ${plural(all, "partition")} ${open === 1 ? "is" : "are"} open.`,
      all > 1 && ` Partition ${shown[0]?.id} has this workspace. Others are listed if they are not open, or have no worker.`),
    table("Partitions", [
      { name: "Partition", of: ({ id }) => id },
      { name: "State", of: ({ state }) => badge(state, { open: "good" }[state] ?? "bad") },
      { name: "Worker", of: ({ hasWorker }) => (hasWorker ? "runs" : badge("none", "bad")) },
      { name: "Not recorded", number: true, of: (row) => (own(row) ? number(consistency?.lagEvents) : "–") },
      { name: "Oldest", number: true, of: (row) => (own(row) && consistency ? `${consistency.lagSeconds.toFixed(2)} s` : "–") },
      { name: "State since", of: ({ since }) => when(since) },
    ], shown),
  ];
}

function stocks(books, more) {
  const columns = [
    { name: "Book", class: "long", of: (book) => h("a", { href: `#/book/${book.bookId}` }, book.name) },
    { name: "Status", of: (book) => [bookState(book), h("div", { class: "hint" }, bounds(book))] },
    { name: "Stock", hidden: true, class: "bars stock", of: ({ counts }) => counts && stock(counts) },
    { name: "Codes", number: true, of: ({ counts }) => number(counts?.codes) },
    { name: "Available", number: true, of: ({ counts }) => number(counts?.available) },
    { name: "Held", number: true, of: ({ counts }) => number(counts?.locked) },
    { name: "Switched off", number: true, of: ({ counts }) => number(counts?.inactive) },
    { name: "Redemptions", number: true, of: ({ counts }) => number(counts?.redemptions) },
    { name: "Amount", number: true, class: "amount", of: ({ counts, currency }) => [
      money(counts?.discountTotal, currency), counts && h("div", { class: "hint" }, counts.balance ? "paid by card" : "discounts given")] },
  ];
  return [
    books.length > 0 && h("div", { class: "hint" }, stockWords()), table("Stock of each book", columns, books, "No books yet."),
    more && h("p", { class: "hint" }, `The newest ${books.length} books. `, h("a", { href: "#/books" }, "All books")),
  ];
}

// The end of a book's window that says most.
function bounds({ state, validFrom, validUntil }) {
  if (state === "not begun") return ["begins ", when(validFrom)];
  return validUntil && [state === "ended" ? "" : "until ", when(validUntil)];
}

async function reconcile() {
  const repair = input({ name: "repair", type: "checkbox" });
  const job = await ask("Reconcile now", [
    h("p", {}, "A job compares all of the workspace's data in Redis with Postgres, while requests go on."),
    field("Repair differences in Redis from Postgres", repair),
  ], "Reconcile", () => post("/v1/ops/reconcile", { repair: repair.checked }));
  if (job) toast("The comparison has begun; see Jobs.");
}

export async function show(main, { query }, page) {
  const history = charts(page, query);
  const glance = h("div");
  const alarm = h("div", { role: "alert" });
  const books = h("div");
  const worker = h("div", { class: "stack" });
  const undecided = quarantine(page);
  fill(main,
    head("Overview", "Live; paused in a background tab.",
      page.may("operate") && h("button", { type: "button", onclick: reconcile }, "Reconcile now")),
    alarm, glance, undecided.element, history.element,
    page.may("operate") && card("Worker", worker),
    h("section", { class: "card" }, h("header", {}, h("h2", {}, "Stock")), books));
  let consistency = null;

  const look = async () => {
    const now = await page.get("/console/data/overview");
    fill(alarm, ...alarms(now, consistency));
    fill(glance, facts(now, consistency, page.may("operate")));
    if (now.workers) refill(worker, partitions(now.workers, consistency));
    refill(books, stocks(now.books, now.moreBooks));
  };
  history.begin();
  if (page.may("operate")) {
    page.every(OPERATORS_MS, async () => { consistency = await page.get("/v1/ops/consistency"); });
    page.every(OPERATORS_MS, undecided.look);
  }
  await page.every(ASK_MS, look);
}

// Each alarm with its alert's name: the heading of its runbook in docs/operations.md.
function alarms({ redis, postgres, workers }, consistency) {
  const found = [];
  const add = (alert, text) => found.push([alert, text]);
  if (!redis.connected) add("ScripRedisDown", "Redis can't be reached: every checkout gets 503.");
  else if (redis.gate === "" && !workers?.shown[0]?.lacks) add("ScripPartitionClosed", "The gate is closed: Redis is being verified or rebuilt, and every checkout gets 503.");
  if (redis.gate === "full") add("ScripUnrecordedEventsOld", "Postgres is behind: locks and assignments are refused until it has caught up.");
  if (redis.gate === "behind") add("ScripUnrecordedEventsOld", "Postgres is far behind: all changes are refused until it has caught up.");
  if (workers?.shown[0]?.lacks) add("ScripPostgresOlder", `${workers.shown[0].lacks}. Every checkout gets 503, and Redis stays as it is. Bring the newer Postgres back. If it is gone, "scrip recover" shows the other ways.`);
  if (!postgres.version) add("ScripPostgresDown", "Postgres can't be reached: decisions of Redis wait to be recorded.");
  if (workers?.shown[0]?.hasWorker === false) add("ScripWorkerMissing", "No worker records this workspace's partition: what is decided waits in Redis. Start one: scrip worker.");
  for (const { task, failures, reason, since } of consistency?.failing ?? []) {
    if (task === "worker") continue;
    add("ScripTaskFailing", `The worker's ${task} has failed ${number(failures)} times since ${when(since).textContent}, last because of ${reason}.`);
  }
  return found.map(([alert, text]) => h("p", { class: "banner bad" }, text, " ", h("small", {}, `Runbook: docs/operations.md, ${alert}.`)));
}
