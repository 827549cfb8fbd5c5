// The OpenAPI document, and how its schemas read; and what each code of a refusal means: { code, status, for, title, remedy }.

export let api = null, problems = [];

// Fetch both. Throws if the server does not answer them.
export async function load() {
  [api, problems] = await Promise.all(["/schema/openapi.json", "/problems"].map(async (address) => {
    const response = await fetch(address, { credentials: "omit" });
    if (!response.ok) throw new Error(`The server answered ${response.status}.`);
    return response.json();
  }));
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

const METHODS = ["get", "post", "patch", "delete"];

// All operations by path: { id, method, path, also, ...operation }. `also` has those that do the same at another path.
export function listOperations() {
  const all = Object.entries(api.paths).sort(([one], [other]) => (one < other ? -1 : 1)).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) =>
      ({ ...item[method], id: item[method].operationId, method: method.toUpperCase(), path, also: [] })));
  for (const one of all) all.find(({ id }) => id === one["x-same-as"])?.also.push(one);
  return all.filter((one) => !one["x-same-as"]);
}

export const findSuccess = (operation) => Object.entries(operation.responses).find(([code]) => code < "300")?.[1] ?? {};

// The name of the struct that a schema refers to, also if it may be null.
export function nameStruct(schema) {
  const { $ref: reference, anyOf } = schema ?? {};
  return reference?.split("/").at(-1) ?? (anyOf?.length === 2 && anyOf[1].type === "null" ? nameStruct(anyOf[0]) : null);
}

// What a search finds of an operation besides its own words: [what it is, its name].
export function listTerms(operation) {
  const terms = new Map();
  const add = (kind, name) => terms.has(name) || terms.set(name, kind);
  const addFields = (schema, depth = 0) => {
    for (const [, object] of depth < 5 ? listObjects(resolve(schema ?? {})) : []) {
      for (const [name, one] of Object.entries(object.properties)) {
        add("field", name);
        addFields(one, depth + 1);
      }
    }
  };
  const success = findSuccess(operation);
  for (const { in: place, name } of operation.parameters ?? []) add(place === "header" ? "header" : "parameter", name);
  for (const { schema } of [operation.requestBody, success].flatMap((one) => Object.values(one?.content ?? {}))) addFields(schema);
  for (const name of Object.keys(success.headers ?? {})) add("header", name);
  for (const { code } of listRefusals(operation)) add("refusal", code);
  return [...terms].map(([name, kind]) => [kind, name]);
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

// The first example of a field with this name, or null.
export function findFieldExample(name) {
  const fields = Object.values(api.components.schemas).map(({ properties }) => resolve(properties?.[name] ?? {}));
  return fields.find(({ examples }) => examples)?.examples[0] ?? null;
}
