// Azure's own client for Defender for Cloud against the sandbox: it lists the JIT policies at every scope, writes one,
// asks JIT to open a port, reads the record, and deletes the policy. What it saw goes to standard output as one JSON object.

import { SecurityCenter } from "@azure/arm-security";
import { credential, passes, refusal, resourceManager, setting } from "./sandbox.mjs";

const [group, location, vm] = process.argv.slice(2);
const client = new SecurityCenter(credential, setting("SANDBOX_SUBSCRIPTION_ID"), resourceManager);
const policies = client.jitNetworkAccessPolicies;

async function names(list) {
  const found = [];
  for await (const policy of list) found.push(policy.name);
  return found;
}

const protectedPort = { number: 5985, protocol: "TCP", allowedSourceAddressPrefix: "*", maxRequestAccessDuration: "PT3H" };
const written = await policies.createOrUpdate(group, location, "second", {
  kind: "Basic",
  virtualMachines: [{ id: vm, ports: [protectedPort] }],
});
await passes(60);
const lists = {
  subscription: await names(policies.list()),
  region: await names(policies.listByRegion(location)),
  group: await names(policies.listByResourceGroup(group)),
  groupAndRegion: await names(policies.listByResourceGroupAndRegion(group, location)),
};
const read = await policies.get(group, location, "second");
// The time of the world, which is not the machine's.
const now = new Date(setting("NOW"));
const record = await policies.initiate(group, location, "second", {
  virtualMachines: [
    { id: vm, ports: [{ number: 5985, allowedSourceAddressPrefix: "203.0.113.7", endTimeUtc: new Date(now.getTime() + 3_600_000) }] },
  ],
  justification: "a trial",
});
await passes(60);
const opened = await policies.get(group, location, "second");
const beyond = await refusal(
  policies.initiate(group, location, "second", {
    virtualMachines: [{ id: vm, ports: [{ number: 22, allowedSourceAddressPrefix: "*", endTimeUtc: now }] }],
  }),
);
await policies.delete(group, location, "second");
const missing = await refusal(policies.get(group, location, "second"));

console.log(JSON.stringify({ written, lists, read, record, opened: opened.requests, beyond, missing }));
