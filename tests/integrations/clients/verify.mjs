// One request on standard input; says whether a library that is not ours finds its signature good.
import { readFileSync } from "node:fs";

const { client, secret, headers, body } = JSON.parse(readFileSync(0, "utf-8"));
const { Webhook } = await import(client);
const named = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
try {
  new Webhook(secret).verify(body, named);
  console.log("good");
} catch (error) {
  if (error.constructor.name !== "WebhookVerificationError") throw error;
  console.log("bad");
}
