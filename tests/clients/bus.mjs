// Microsoft's REST client for Service Bus, as the programs here use it.

import azure from "azure-sb";
import { credential, setting } from "./sandbox.mjs";

const address = new URL(setting("SANDBOX_SERVICEBUS_URL"));

// The client signs with a key unless its caller gives it another signer. Local auth is off: this one shows a token.
const signer = {
  signRequest(request, signed) {
    credential.getToken("https://servicebus.azure.net/.default").then(
      ({ token }) => {
        request.withHeader("authorization", `Bearer ${token}`);
        signed(null);
      },
      (error) => signed(error),
    );
  },
};

// The client's callbacks as promises. A refusal is an answer here: what was refused, and with which status.
function calls(service) {
  const call = (method, ...given) =>
    new Promise((resolve) => {
      service[method](...given, (error, ...answers) => {
        const response = answers.at(-1);
        if (error) resolve({ error: error.detail ?? error.message ?? error, status: response?.statusCode ?? error.statusCode });
        else resolve({ message: answers.length > 1 ? answers[0] : undefined, status: response.statusCode });
      });
    });
  // The client looks for its host in a message's location, and knows no port there.
  const place = (message) => message.location.replace(`:${address.port}`, "");
  return {
    send: (queue, message) => call("sendQueueMessage", queue, message),
    peekLock: (queue) => call("receiveQueueMessage", queue, { isPeekLock: true }),
    receiveAndDelete: (queue) => call("receiveQueueMessage", queue, { isPeekLock: false }),
    renew: (message) => call("renewLockForMessage", place(message)),
    unlock: (message) => call("unlockMessage", place(message)),
    complete: (message) => call("deleteMessage", place(message)),
  };
}

export const bus = calls(azure.createServiceBusService("portcullis", "no-key", undefined, undefined, address.origin, signer));
export const busWithKey = calls(
  azure.createServiceBusService(`Endpoint=${address.origin};SharedAccessKeyName=sender;SharedAccessKey=bm8ta2V5`),
);
