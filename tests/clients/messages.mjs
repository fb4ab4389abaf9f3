// Microsoft's REST client for Service Bus reads away what a queue has for it now, whoever sent it. What it read goes to
// standard output as one JSON array.

import { bus } from "./bus.mjs";

const [queue] = process.argv.slice(2);
const read = [];
for (;;) {
  const { message, error, status } = await bus.receiveAndDelete(queue);
  if (status === 204) break;
  if (error) throw new Error(`${status}: ${JSON.stringify(error)}`);
  read.push(message);
}
console.log(JSON.stringify(read));
