// Adding codes to a book by an upload: check the file, map its columns, then upload it.

import { ask as request, at } from "./api.js";
import { busy, download, field, fileFormat, fileFormats, fill, h, input, money, number, pairs, plural, select, table, tell, toast } from "./dom.js";

const UPLOAD_MS = 3_600_000;
const SHOWN = 20;
const TEMPLATE = "code,userId,expiresAt,maxRedemptions\nSUMMER-0001,,,\nSUMMER-0002,user-42,2030-01-01T00:00:00Z,3\n";
const CARDS = "code,userId,expiresAt,amount\nCARD-0001,,,\nCARD-0002,user-42,2030-01-01T00:00:00Z,75.00\n";
const FIELDS = [["-", "Ignore"], ["code", "Code"], ["userId", "User"], ["expiresAt", "Expires"], ["maxRedemptions", "Redemptions allowed"], ["amount", "Amount of a card"]];
const DELIMITERS = [["comma", "Comma"], ["semicolon", "Semicolon"], ["tab", "Tab"], ["pipe", "Pipe"], ["colon", "Colon"]];
const ORDERS = [["dmy", "Day, month, year"], ["mdy", "Month, day, year"], ["ymd", "Year, month, day"]];
const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone;
const ZONES = [...new Set([HERE, "UTC", ...Intl.supportedValuesOf("timeZone")])].map((zone) => [zone, zone]);

// How dates without an offset are read: the order of their numbers, and the time zone.
function renderDates({ order, timeZone, example, readAs }, chosen, again) {
  const orders = select(order ? ORDERS : [["", "Choose"], ...ORDERS], order ?? "");
  const zones = select(ZONES, timeZone);
  orders.addEventListener("change", () => again({ ...chosen(), dates: orders.value }));
  zones.addEventListener("change", () => again({ ...chosen(), timeZone: zones.value }));
  const read = readAs && new Date(readAs).toLocaleString("en-GB", { timeZone, dateStyle: "long", timeStyle: "medium" });
  return h("fieldset", {}, h("legend", {}, "Read the dates as"), h("div", { class: "form" },
    field("Order", orders, read ? `“${example}” is ${read}.` : `such as ${example}`),
    field("Time zone", zones, "Of times without one. A date alone is the end of that day.")));
}

// What is wrong with the file as a whole, and where to choose.
function renderProblem({ columns, problem, problemField }) {
  const about = problemField === "dates" ? "order of the dates" : "header";
  const text = `The ${about} ${(columns.length ? problem.split("; ")[0] : problem).replaceAll("`", "")}.`;
  return h("p", { class: "banner warn" }, `${text} ${columns.length ? "Choose below how to read the file." : ""}`);
}

// How the file is read, with controls to change it. `again(options)` checks the file anew; `chosen()` are the newest.
function renderLayout(layout, chosen, again) {
  const { delimiter, hasHeader, columns, dates, problem } = layout;
  const delimiters = select(DELIMITERS, delimiter);
  const header = select([["true", "Names of columns"], ["false", "A code"]], String(hasHeader));
  const mapped = columns.map((column) => select(FIELDS, column.field ?? "-"));
  const options = (columnsToo) => ({
    ...chosen(), delimiter: delimiters.value, header: header.value, columns: columnsToo ? mapped.map(({ value }) => value).join(",") : null,
  });
  delimiters.addEventListener("change", () => again({ ...chosen(), delimiter: delimiters.value, header: null, columns: null }));
  header.addEventListener("change", () => again(options(header.value === "false" && mapped.some(({ value }) => value === "code"))));
  for (const control of mapped) control.addEventListener("change", () => {
    if (control.value !== "-") for (const other of mapped) if (other !== control && other.value === control.value) other.value = "-";
    if (mapped.some(({ value }) => value === "code")) again(options(true));
    else toast("Choose the column with the codes.", "bad");
  });
  return [
    problem && renderProblem(layout),
    columns.length > 0 && h("div", { class: "form" }, field("Columns are separated by", delimiters), field("The first line is", header)),
    columns.length > 0 && h("fieldset", {}, h("legend", {}, "Read the columns as"), h("div", { class: "form" },
      columns.map((column, place) => field(column.name || `Column ${place + 1}`, mapped[place], column.example && `such as ${column.example}`)))),
    dates && renderDates(dates, chosen, again),
  ];
}

function renderCounts(result, { currency }, tried, save) {
  const estimate = result.isExact === false ? "about " : "";
  return [
    pairs([
      [tried ? "Would be added" : "Added", estimate + number(result.added)],
      ["Duplicates", estimate + number(result.duplicates)],
      ["Rejected", number(result.invalid)],
      result.amount && [tried ? "Amount of the cards" : "Issued", estimate + money(result.amount, currency)],
    ]),
    result.errors.length > 0 && [
      table("Rejected lines", [
        { name: "Line", number: true, of: ({ line }) => number(line) },
        { name: "Code", class: "long", of: ({ code }) => h("span", { class: "code" }, code) },
        { name: "Reason", of: ({ reason }) => reason },
      ], result.errors.slice(0, SHOWN)),
      h("p", { class: "row" }, h("button", { type: "button", onclick: save }, "Save the rejected lines"), fileFormats(),
        result.invalid > SHOWN && h("span", { class: "hint" }, `The first ${SHOWN} of ${number(result.invalid)} are shown.`)),
      h("p", { class: "hint" }, "Correct them in your file and choose it again: codes that were added before count as duplicates and stay as they are."),
    ],
  ];
}

// The form of an upload: a file or lines; check, then upload.
export function uploading(book, place, done) {
  const path = `/v1/books/${book.bookId}/codes`;
  const isCards = book.discount?.type === "balance";
  const file = input({ type: "file", accept: ".csv,.tsv,.txt,text/csv,text/plain" });
  const lines = h("textarea", { spellcheck: "false", rows: 4 });
  const result = h("div", { role: "status", class: "card", hidden: true });
  const sent = h("progress", { max: 1, class: "idle", "aria-label": "Sent and read" });
  const go = h("button", { type: "button", class: "primary", disabled: true }, "Upload");
  const check = h("button", { type: "button" }, "Check file");
  let checking = new AbortController(); // of the last check
  let close = () => fill(place);
  let options = { timeZone: HERE }; // how the file is read, where it was not detected

  // A pasted list is a code a line, unless it looks like a table.
  const isList = () => !file.files[0] && !/[,;\t|]|^code$/i.test(lines.value.trim().split("\n", 1)[0].trim());
  const send = async (address, query, signal) => {
    const body = file.files[0] ?? new Blob([lines.value]);
    if (body.size === 0) throw new Error("Choose a file, or enter codes.");
    const csv = !isList();
    const unknownColumns = csv && !options.columns ? "ignore" : null;
    sent.classList.remove("idle");
    try {
      return await request("POST", at(address, { ...query, ...(csv && options), unknownColumns }),
        { body, type: csv ? "text/csv" : "text/plain", timeoutMs: UPLOAD_MS, signal, onSent: showSent });
    } finally {
      if (!signal?.aborted) sent.classList.add("idle");
    }
  };
  // The server reads the file as it comes. After the last part the bar has no value until the response.
  const showSent = (share) => (share < 1 ? (sent.value = share) : sent.removeAttribute("value"));
  const save = async () => {
    try {
      download(`rejected-${book.bookId}.csv`, await (await send(`${path}/rejected.csv`, { excel: fileFormat() })).blob());
    } catch (error) {
      tell(error);
    }
  };
  const again = async (chosen) => {
    options = chosen;
    const place = [...result.querySelectorAll("select")].indexOf(document.activeElement);
    await run(true);
    result.querySelectorAll("select")[place]?.focus({ preventScroll: true });
  };
  // A newer check ends the one before, whose answer is about another reading of the file.
  const run = async (dryRun) => {
    checking.abort();
    checking = new AbortController();
    const signal = dryRun ? checking.signal : null;
    const others = dryRun ? [check] : [check, ...result.querySelectorAll("select")];
    go.disabled = true;
    try {
      const answer = await busy(others, async () => (await send(path, { dryRun: dryRun ? true : null }, signal)).json());
      result.hidden = false;
      const { file: layout } = answer;
      if (layout && answer.errors.some(({ reason }) => reason.includes("send `dates`"))) // they begin later in the file
        layout.dates ??= { order: null, timeZone: options.timeZone, example: "31.12.2026" };
      fill(result, dryRun && layout && renderLayout(layout, () => options, again), !layout?.problem && renderCounts(answer, book.discount ?? {}, dryRun, save));
      go.disabled = !dryRun || answer.added === 0;
      if (dryRun) go.textContent = layout?.problem ? "Upload" : `Upload ${plural(answer.added, "code")}`;
      else {
        toast(`${plural(answer.added, "code")} added to ${book.name}.`);
        close = done; // the list of codes is shown anew
        if (answer.invalid === 0) done();
        else check.focus();
      }
    } catch (error) {
      if (!signal?.aborted) tell(error);
    }
  };
  for (const control of [file, lines]) control.addEventListener("input", () => {
    checking.abort();
    options = { timeZone: HERE };
    go.disabled = result.hidden = true;
    sent.classList.add("idle");
  });
  check.addEventListener("click", () => run(true));
  go.addEventListener("click", () => run(false));
  // Ctrl Enter checks the file, then uploads it.
  const onkeydown = (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    (go.disabled ? check : go).click();
  };
  fill(place, h("section", { class: "card", "aria-label": "Upload", onkeydown },
    h("header", {}, h("h2", { tabindex: -1 }, "Upload codes"),
      h("button", { type: "button", class: "quiet", onclick: () => download("codes.csv", isCards ? CARDS : TEMPLATE) }, "Save a template")),
    h("div", { class: "form" },
      field("A file", file, `CSV of up to 1 GiB, also of a spreadsheet, with a column of codes, and perhaps users (their ids, not their names), expiries and ${isCards ? "amounts; without one a card has the book's" : "redemptions allowed"}.`),
      field("Or codes, one a line", lines)),
    h("div", { class: "row" }, check, go, h("button", { type: "button", class: "quiet", onclick: () => close() }, "Close")),
    sent, result));
  place.querySelector("h2").focus();
}
