// A request as code: for curl, for the Python client (client/generate.py makes its methods), and for Node.
//
// A request has its operation, `values` of the path, `query`, `headers`, a `body` (text, or null for none) and its `type`.

import { curl } from "/checkout/assets/curl.js";
import { findExample, findFieldExample, findSuccess, nameStruct, resolve } from "./document.js";

const FILE = "codes.csv"; // what an upload sends
const WIDE = 60; // characters of a line in brackets
const KEY = "SCRIP_KEY"; // the variable with the key

const snake = (name) => name.replace(/(?<!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
const isOpen = (operation) => operation.security?.length === 0;
const isFile = ({ type }) => type != null && type !== "application/json";
const indent = (text, by) => text.replaceAll("\n", `\n${by}`);

// Throws for a value that URLs lose on their way, encoded or not: the request would be another operation's.
function segment(value) {
  if (/^\.{0,2}$/.test(value)) throw new Error(`Nothing has the name "${value}".`);
  return encodeURIComponent(value).replace(/^%3C(\w+)%3E$/, "<$1>");
}

export function address({ operation, values, query }) {
  const search = new URLSearchParams(query);
  const path = operation.path.replace(/{(\w+)}/g, (_, name) => segment(values[name]));
  return search.size > 0 ? `${path}?${search}` : path;
}

function asCurl(request) {
  const { operation, headers, body, type } = request;
  const key = isOpen(operation) ? null : `$${KEY}`;
  return curl({ method: operation.method, path: address(request), headers, body, type, key, file: isFile(request) && FILE });
}

function asNode(request) {
  const { operation, headers, body, type } = request;
  const lines = Object.entries({ ...((body !== null || isFile(request)) && { "Content-Type": type }), ...headers }).map(([name, value]) =>
    `${/^\w+$/.test(name) ? name : JSON.stringify(name)}: ${JSON.stringify(value)}`);
  if (!isOpen(operation)) lines.unshift(`Authorization: \`Bearer \${process.env.${KEY}}\``);
  const options = [
    operation.method !== "GET" && `method: "${operation.method}"`,
    lines.length > 0 && `headers: {\n    ${lines.join(",\n    ")},\n  }`,
    (body !== null || isFile(request)) && `body: ${isFile(request) ? `await openAsBlob("${FILE}")` : `JSON.stringify(${indent(body, "  ")})`}`,
  ].filter(Boolean);
  const media = Object.keys(findSuccess(operation).content ?? {})[0];
  return [
    isFile(request) && 'import { openAsBlob } from "node:fs";\n',
    `const response = await fetch(${JSON.stringify(location.origin + address(request))}${options.length > 0 ? `, {\n  ${options.join(",\n  ")},\n}` : ""});`,
    'if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);',
    media && `console.log(await response.${media === "application/json" ? "json" : "text"}());`,
  ].filter(Boolean).join("\n");
}

// ---- Python

// The parts in brackets: on one line, or a line for each.
function enclose(open, parts, close) {
  const line = `${open}${parts.join(", ")}${close}`;
  if (line.length <= WIDE && !line.includes("\n")) return line;
  return `${open}\n${parts.map((part) => `    ${indent(part, "    ")},\n`).join("")}${close}`;
}

// A value in Python, as the client's type of its schema.
function literal(value, schema) {
  const known = resolve(schema ?? {});
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return enclose("[", value.map((one) => literal(one, known.items)), "]");
  if (typeof value === "object") {
    const { propertyName: tag, mapping } = known.discriminator ?? {};
    const own = tag ? { $ref: mapping[value[tag]] } : schema;
    const struct = nameStruct(own);
    const { properties } = struct ? resolve(own) : {};
    const members = Object.entries(value).filter(([name]) => name !== tag);
    if (!struct) return enclose("{", members.map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`), "}");
    return enclose(`models.${struct}(`, members.map(([name, one]) => `${argument(name)}=${literal(one, properties[name])}`), ")");
  }
  if (known.format === "date-time") return `datetime.fromisoformat(${JSON.stringify(value)})`;
  const isAmount = known.anyOf?.some((one) => one.type === "number");
  return JSON.stringify(isAmount && !Number.isInteger(value) ? String(value) : value);
}

const argument = (name) => (name === "from" ? "from_" : snake(name));

function listArguments({ operation, values, query, headers, body, type }) {
  const of = (place) => (operation.parameters ?? []).filter((one) => one.in === place);
  const parts = of("path").map(({ name }) => JSON.stringify(values[name]));
  if (isFile({ type })) {
    parts.push("codes=file", ...(type === "text/csv" ? [] : [`media_type="${type}"`]));
  } else if (body !== null) {
    const { properties } = resolve(operation.requestBody.content[type].schema);
    parts.push(...Object.entries(JSON.parse(body)).map(([name, value]) => `${argument(name)}=${literal(value, properties[name])}`));
  }
  for (const { name, schema } of of("query")) {
    if (name in query) parts.push(`${argument(name)}=${["integer", "boolean"].includes(schema.type) ? literal(JSON.parse(query[name])) : literal(query[name], schema)}`);
  }
  if (headers["Idempotency-Key"]) parts.push(`idempotency_key=${JSON.stringify(headers["Idempotency-Key"])}`);
  if (headers.Prefer) parts.push(`recorded_within_s=${/wait=(\d+)/.exec(headers.Prefer)?.[1] ?? 2}`);
  return parts;
}

function asPython(request) {
  const { operation } = request;
  const [[media, { schema } = {}] = []] = Object.entries(findSuccess(operation).content ?? {});
  const file = isFile(request);
  const by = file ? "        " : "    ";
  const sent = indent(enclose(`scrip.${snake(operation.id)}(`, listArguments(request), ")"), by);
  const run = media === "text/csv" ? `with ${sent} as chunks:\n${by}    for chunk in chunks:\n${by}        sys.stdout.buffer.write(chunk)`
    : nameStruct(schema)?.endsWith("Page") ? `for item in ${sent}:\n${by}    print(item)`
      : media ? `answer = ${sent}\n${by}print(answer)` : sent;
  const imports = ["os", run.includes("sys.stdout") && "sys"].filter(Boolean).map((name) => `import ${name}\n`).join("");
  return [
    imports + (run.includes("datetime.") ? "from datetime import datetime\n" : ""),
    `from scrip_client import Client${run.includes("models.") ? ", models" : ""}\n`,
    `with Client(${JSON.stringify(location.origin)}, os.environ["${KEY}"]) as scrip:`,
    file && `    with open("${FILE}", "rb") as file:`,
    `${by}${run}`,
  ].filter(Boolean).join("\n");
}

export const LANGUAGES = { curl: asCurl, Python: asPython, Node: asNode };

// The request as code. While it is no request, such as one whose body is not JSON, or whose path leads elsewhere, a
// comment says so.
export function write(language, request) {
  try {
    if (request.body !== null && !isFile(request)) JSON.parse(request.body);
    address(request);
    return LANGUAGES[language](request);
  } catch {
    return "# The request is not valid yet.";
  }
}

// Examples of the path's parameters and of required ones, from the operation's answer and body, or from anywhere.
export function guess(operation) {
  const bodies = [operation.requestBody?.content, findSuccess(operation).content].map((content) => findExample(content?.["application/json"]) ?? {});
  const all = Object.assign({}, ...bodies, ...bodies.map((body) => body.items?.[0] ?? {}));
  return (name) => (typeof all[name] === "string" ? all[name] : findFieldExample(name) ?? `<${name}>`);
}

