// The OpenAPI document, and how its schemas read.

export let api = null;

// Fetch the document. Throws if the server does not answer it.
export async function load() {
  const response = await fetch("/schema/openapi.json", { credentials: "omit" });
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  api = await response.json();
}

// The schema that a reference or a union with null stands for, with `nullable`; its own description comes first.
export function resolve(schema) {
  const { $ref: reference, anyOf, ...own } = schema;
  if (reference) return resolve({ ...api.components.schemas[reference.split("/").at(-1)], ...own });
  const options = anyOf?.filter((one) => one.type !== "null");
  if (options?.length !== 1) return options ? { ...own, anyOf: options } : own;
  return resolve({ ...options[0], ...own, nullable: options.length < anyOf.length });
}

const TYPES = { "date-time": "time, RFC 3339", uuid: "UUID", uri: "URL" };

// The name of a resolved schema's type.
export function nameType(schema) {
  if (schema.items) return `array of ${nameType(resolve(schema.items))}`;
  if (schema.anyOf) return [...new Set(schema.anyOf.map((one) => nameType(resolve(one))))].join(" or ");
  return TYPES[schema.format] ?? schema.type ?? typeof schema.enum?.[0];
}

function range(least, most, unit) {
  const said = (value) => value.toLocaleString("en");
  const units = unit && (least ?? most) === 1 && (most ?? 1) === 1 ? ` ${unit}` : unit && ` ${unit}s`;
  if (least != null && most != null) return least === most ? `${said(least)}${units}` : `${said(least)} to ${said(most)}${units}`;
  if (least != null) return `at least ${said(least)}${units}`;
  return most != null && `at most ${said(most)}${units}`;
}

// What a resolved schema's value must meet, besides its type: texts.
export function listBounds(schema) {
  return [
    range(schema.minLength, schema.maxLength, "character"),
    range(schema.minItems, schema.maxItems, "item"),
    range(schema.minimum, schema.maximum, ""),
    schema.exclusiveMinimum != null && `more than ${schema.exclusiveMinimum.toLocaleString("en")}`,
    schema.exclusiveMaximum != null && `less than ${schema.exclusiveMaximum.toLocaleString("en")}`,
    schema.uniqueItems && "each once",
    schema.nullable && "may be null",
    schema.default != null && `default ${JSON.stringify(schema.default)}`,
  ].filter(Boolean);
}

// Of a resolved schema, the objects in it: [name, schema with properties].
export function listObjects(schema) {
  if (schema.properties) return [["", schema]];
  if (schema.items) return listObjects(resolve(schema.items));
  const tags = Object.entries(schema.discriminator?.mapping ?? {});
  if (tags.length > 0) return tags.map(([tag, reference]) => [tag, resolve({ $ref: reference })]);
  return (schema.anyOf ?? []).flatMap((one) => listObjects(resolve(one)));
}

// All operations in the document's order: { id, method, path, ...operation }.
export function listOperations() {
  return Object.entries(api.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ ...operation, id: operation.operationId, method: method.toUpperCase(), path })));
}

// The codes with which an operation refuses a request: { code, status, sentence }.
export function listRefusals(operation) {
  return Object.entries(operation.responses).filter(([status]) => status >= "400").flatMap(([status, { description }]) =>
    [...description.matchAll(/^`(\w+)`: (.+)$/gm)].map(([, code, sentence]) => ({ code, status, sentence })));
}

// The first example of a media type's content, or null.
export function findExample(content) {
  return Object.values(content?.examples ?? {})[0]?.value ?? null;
}
