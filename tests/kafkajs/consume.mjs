// A consumer as the replaced system's was: takes messages in a group, commits each once it is done with it, and prints
// it. It leaves the group after LIMIT messages, or at SIGTERM.
import { Kafka, logLevel } from 'kafkajs';

const { BROKERS, GROUP, TOPIC, LIMIT } = process.env;
const limit = LIMIT ? Number(LIMIT) : Infinity;
const kafka = new Kafka({
  clientId: 'old-task-manager',
  brokers: BROKERS.split(','),
  logLevel: logLevel.ERROR,
  retry: { retries: 2 },
});
const consumer = kafka.consumer({ groupId: GROUP });
let taken = 0;
let leaving = false;

const leave = async () => {
  if (leaving) return;
  leaving = true;
  await consumer.disconnect();
  process.exit(0);
};
process.on('SIGTERM', leave);
consumer.on(consumer.events.CRASH, ({ payload }) => {
  console.error(payload.error.message);
  process.exit(1);
});

await consumer.connect();
await consumer.subscribe({ topic: TOPIC, fromBeginning: true });
consumer.on(consumer.events.GROUP_JOIN, () => console.log(JSON.stringify({ joined: true })));
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ topic, partition, message }) => {
    if (leaving || taken >= limit) return;
    taken += 1;
    const next = (BigInt(message.offset) + 1n).toString();
    await consumer.commitOffsets([{ topic, partition, offset: next }]);
    console.log(JSON.stringify({ partition, offset: Number(message.offset), key: message.key.toString() }));
    if (taken >= limit) setImmediate(leave);
  },
});
