// Checkouts of examples/checkout.mjs, CHECKOUTS in number and IN_FLIGHT at once, each of one use of CODE. One whose outcome
// is unknown is begun again, or redeemed again if it is paid, as a job of the shop would. Prints a line of JSON for each:
// orderId, status, begun (times).
import { createServer } from "node:http";

const { CODE, CHECKOUTS, IN_FLIGHT } = process.env;
const provider = createServer((request, response) => request.resume().on("end", () => response.writeHead(204).end()));
await new Promise((resolve) => provider.listen(0, "127.0.0.1", resolve));
process.env.PAYMENT_URL = `http://127.0.0.1:${provider.address().port}/`;
const { checkOut, redeem } = await import("../../../examples/checkout.mjs");

async function complete(order) {
  let paid = null;
  for (let begun = 1; ; begun++) {
    try {
      const done = await (paid ? redeem(paid) : checkOut(order));
      if (done.status !== "unknown" || begun === 5) return { ...done, begun };
      paid = done;
    } catch (error) {
      if (begun === 5) return { status: `unknown: ${error}`, begun };
    }
  }
}

let next = 0;
async function shop() {
  while (next < CHECKOUTS) {
    const orderId = `${CODE}-${next++}`;
    const done = await complete({ orderId, userId: `u-${orderId}`, code: CODE, value: "10.00" });
    console.log(JSON.stringify({ orderId, ...done }));
  }
}
await Promise.all(Array.from({ length: Number(IN_FLIGHT) }, shop));
provider.close();
provider.closeAllConnections();
