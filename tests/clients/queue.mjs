// Microsoft's REST client for Service Bus against the sandbox: a message is sent, locked, given back, locked again and
// completed; one is scheduled; a lock is lost. What it saw goes to standard output as one JSON object.

import { bus, busWithKey } from "./bus.mjs";
import { passes, setting } from "./sandbox.mjs";

const [queue] = process.argv.slice(2);
const now = new Date(setting("NOW"));

const sent = await bus.send(queue, {
  body: JSON.stringify({ n: 1 }),
  contentType: "application/json",
  brokerProperties: { MessageId: "m-1", CorrelationId: "c-1", Label: "trial", TimeToLive: 600 },
  customProperties: { attempt: 3, urgent: true, note: "two words" },
});
const first = await bus.peekLock(queue);
const whileLocked = await bus.peekLock(queue);
// A lock is of a minute: half of it, renewed, and a part of the new one are more than that.
await passes(45);
const renewed = await bus.renew(first.message);
await passes(45);
const unlocked = await bus.unlock(first.message);
const second = await bus.peekLock(queue);
const completed = await bus.complete(second.message);
const again = await bus.complete(second.message);
const empty = await bus.receiveAndDelete(queue);

await bus.send(queue, {
  body: "later",
  brokerProperties: { MessageId: "m-2", ScheduledEnqueueTimeUtc: new Date(now.getTime() + 300_000).toUTCString() },
});
const early = await bus.receiveAndDelete(queue);
await passes(210);
const scheduled = await bus.receiveAndDelete(queue);

await bus.send(queue, "kept for too long");
const held = await bus.peekLock(queue);
await passes(61);
const lost = await bus.complete(held.message);
const back = await bus.receiveAndDelete(queue);

const nowhere = await bus.send("nowhere", "lost");
const withKey = await busWithKey.send(queue, "signed with a key");

console.log(
  JSON.stringify({
    sent, first, whileLocked, renewed, unlocked, second, completed, again, empty, early, scheduled, lost, back, nowhere, withKey,
  }),
);
