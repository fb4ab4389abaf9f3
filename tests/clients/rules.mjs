// Azure's own client against the sandbox: it signs in with a client secret, lists the security rules of a group, deletes
// one, waits as Azure tells it to, and sees that it is gone. What it saw goes to standard output as one JSON object.

import { NetworkManagementClient } from "@azure/arm-network";
import { credential, refusal, resourceManager, setting } from "./sandbox.mjs";

const [group, nsg, rule] = process.argv.slice(2);
const client = new NetworkManagementClient(credential, setting("SANDBOX_SUBSCRIPTION_ID"), resourceManager);

let pages = 0;

async function listed() {
  const rules = [];
  for await (const page of client.securityRules.list(group, nsg).byPage()) {
    pages += 1;
    rules.push(...page.map(({ name, access, direction, priority }) => ({ name, access, direction, priority })));
  }
  return rules;
}

const before = await listed();
const pagesBefore = pages;
const read = await client.securityRules.get(group, nsg, rule);
const statuses = [];
await client.securityRules.beginDeleteAndWait(group, nsg, rule, {
  onResponse: (response) => statuses.push(response.status),
});
const after = await listed();
const missing = await refusal(client.securityRules.get(group, nsg, rule));
const nowhere = await refusal(client.securityRules.list(group, `${nsg}-of-nobody`).next());

const { name, access, etag } = read;
console.log(JSON.stringify({ before, pages: pagesBefore, read: { name, access, etag }, statuses, after, missing, nowhere }));
