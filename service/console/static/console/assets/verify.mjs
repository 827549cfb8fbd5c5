import { createHmac, timingSafeEqual } from "node:crypto";

// Whether Scrip has sent this. The names of `headers` are in lower case, `body` is the bytes as received.
export function isGenuine(headers, body, secret) {
  const id = headers["webhook-id"], at = headers["webhook-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - Number(at)) <= 300)) return false;
  const mac = createHmac("sha256", Buffer.from(secret.slice("whsec_".length), "base64")).update(`${id}.${at}.`).update(body);
  const expected = Buffer.from(`v1,${mac.digest("base64")}`);
  return (headers["webhook-signature"] ?? "").split(" ").map((one) => Buffer.from(one))
    .some((one) => one.length === expected.length && timingSafeEqual(one, expected));
}
