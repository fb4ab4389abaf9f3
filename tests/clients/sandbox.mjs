// What each client here needs of the sandbox: its addresses, a sign-in that asks no public cloud, and its clock.

import { ClientSecretCredential } from "@azure/identity";

export function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: the sandbox's env file has it`);
  return value;
}

export const credential = new ClientSecretCredential(
  setting("SANDBOX_TENANT_ID"),
  setting("SANDBOX_CLIENT_ID"),
  setting("SANDBOX_CLIENT_SECRET"),
  // Without this the client asks the public cloud whether the authority is one of Azure's.
  { authorityHost: setting("SANDBOX_ENTRA_URL"), disableInstanceDiscovery: true },
);

export const resourceManager = {
  endpoint: setting("SANDBOX_ARM_URL"),
  credentialScopes: "https://management.azure.com/.default",
};

// Moves the world's clock, and ends when nothing is due any more.
export async function passes(seconds) {
  const answer = await fetch(`${setting("SANDBOX_CONTROL_URL")}/clock`, {
    method: "POST",
    headers: { authorization: `Bearer ${setting("SANDBOX_CONTROL_TOKEN")}` },
    body: JSON.stringify({ advance: `PT${seconds}S` }),
  });
  if (!answer.ok) throw new Error(`the clock answers ${answer.status}: ${await answer.text()}`);
}

// The refusal that a client makes of an answer, as its caller sees it; null where there was none.
export async function refusal(asked) {
  try {
    await asked;
    return null;
  } catch (error) {
    return { name: error.name, status: error.statusCode, code: error.code };
  }
}
