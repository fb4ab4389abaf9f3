// Azure's own reader of Event Grid's events reads those of a file: an array of arrays, each what one webhook call has. What
// it read goes to standard output as one JSON array of events, each beside the names of the system events that it is.

import { readFile } from "node:fs/promises";
import { EventGridDeserializer, isSystemEvent } from "@azure/eventgrid";

const [file] = process.argv.slice(2);
// The client names its system events in its types alone.
const types = await readFile(new URL("node_modules/@azure/eventgrid/dist/esm/predicates.d.ts", import.meta.url), "utf8");
const systemEvents = [...types.matchAll(/^ *"(Microsoft\.[A-Za-z.]+)":/gm)].map(([, name]) => name);

const reader = new EventGridDeserializer();
const read = [];
for (const call of JSON.parse(await readFile(file, "utf8"))) {
  const body = JSON.stringify(call);
  const events = "specversion" in call[0] ? await reader.deserializeCloudEvents(body) : await reader.deserializeEventGridEvents(body);
  read.push(...events.map((event) => ({ event, is: systemEvents.filter((name) => isSystemEvent(name, event)) })));
}
console.log(JSON.stringify(read));
