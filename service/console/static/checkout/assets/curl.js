// A request as a curl command.

// A shell argument, in single quotes if necessary.
function quote(text) {
  return /^[\w/:.,=@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// `body` is text, or null for none; `file` is the name of a file that is sent instead.
export function curl({ method = "POST", path, body = null, type = "application/json", headers = {}, key = null, file = null }) {
  const isEmpty = body === null && !file;
  const fields = { ...(key && { Authorization: `Bearer ${key}` }), ...(!isEmpty && { "Content-Type": type }), ...headers };
  const usual = isEmpty ? "GET" : "POST";
  // Without --fail-with-body curl succeeds where the service refuses.
  const lines = [`curl -sS --fail-with-body ${method === usual ? "" : `-X ${method} `}${quote(location.origin + path)}`];
  for (const [name, value] of Object.entries(fields)) {
    const line = `${name}: ${value}`;
    // Double quotes, so that the shell expands a key in a variable.
    lines.push(`-H ${value.includes("$") ? `"${line}"` : quote(line)}`);
  }
  // --data-binary keeps the line ends of CSV.
  if (file) lines.push(`--data-binary @${file}`);
  else if (body !== null) lines.push(`${body.includes("\n") ? "--data-binary" : "-d"} ${quote(body)}`);
  return lines.join(" \\\n  ");
}
