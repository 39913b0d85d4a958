// A worker of the replaced system: reads what the host sends to it.
import { Kafka } from 'kafkajs';

const kafka = new Kafka({
  clientId: 'test-worker',
  brokers: ['localhost:9092'],
});

async function readNewTask() {
  const consumer = kafka.consumer({ groupId: `worker-${process.pid}` });
  await consumer.connect();
  await consumer.subscribe({ topic: 'task-status', fromBeginning: true });
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    console.error(payload.error);
    process.exit(1);
  });
  await consumer.run({
    eachMessage: async ({ message }) => {
      const { message: body } = JSON.parse(message.value.toString());
      console.log(JSON.stringify({ key: message.key.toString(), query: body.userQuery, status: body.status }));
      process.exit(0);
    },
  });
}
