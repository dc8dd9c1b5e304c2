// Prints each public event as a line of JSON until so many have come: node subscriber.mjs URL COUNT
import { connect } from "@nats-io/transport-node";

const [, , servers, count] = process.argv;
const client = await connect({ servers });
const subscription = client.subscribe("perpetua.events.>", { max: Number(count) });
await client.flush();
console.log(JSON.stringify({ subscribed: true }));
for await (const message of subscription) {
  console.log(JSON.stringify({ subject: message.subject, event: message.json() }));
}
await client.drain();
