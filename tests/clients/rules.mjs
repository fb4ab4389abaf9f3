// Azure's own client against the sandbox: it signs in with a client secret, lists the security rules of a group, deletes
// one, waits as Azure tells it to, and sees that it is gone. What it saw goes to standard output as one JSON object.

import { ClientSecretCredential } from "@azure/identity";
import { NetworkManagementClient } from "@azure/arm-network";

const [group, nsg, rule] = process.argv.slice(2);

function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: the sandbox's env file has it`);
  return value;
}

const credential = new ClientSecretCredential(
  setting("SANDBOX_TENANT_ID"),
  setting("SANDBOX_CLIENT_ID"),
  setting("SANDBOX_CLIENT_SECRET"),
  // Without this the client asks the public cloud whether the authority is one of Azure's.
  { authorityHost: setting("SANDBOX_ENTRA_URL"), disableInstanceDiscovery: true },
);
const client = new NetworkManagementClient(credential, setting("SANDBOX_SUBSCRIPTION_ID"), {
  endpoint: setting("SANDBOX_ARM_URL"),
  credentialScopes: "https://management.azure.com/.default",
});

let pages = 0;

async function listed() {
  const rules = [];
  for await (const page of client.securityRules.list(group, nsg).byPage()) {
    pages += 1;
    rules.push(...page.map(({ name, access, direction, priority }) => ({ name, access, direction, priority })));
  }
  return rules;
}

// The refusal that Azure's client makes of an answer, as a caller of it sees it.
async function refusal(asked) {
  try {
    await asked;
    return null;
  } catch (error) {
    return { name: error.name, status: error.statusCode, code: error.code };
  }
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
