// A worker of the replaced system: transactional settings as documented, meta fields as record headers.
import { Kafka } from 'kafkajs';

const kafka = new Kafka({
  clientId: 'test-updates',
  brokers: ['localhost:9092'],
});

async function publishUpdates() {
  const producer = kafka.producer({
    allowAutoTopicCreation: true,
    transactionTimeout: 30000,
    maxInFlightRequests: 1,
    idempotent: true,
  });
  await producer.connect();
  const taskId = 'test-task-2';
  const headers = { taskId, taskType: 'web-crawl', timestamp: new Date().toISOString() };
  const body = (fields) => JSON.stringify({ taskId, ...fields });
  await producer.send({
    topic: 'task-status',
    messages: [
      { key: taskId, headers, value: body({ status: 'new', userEmail: 'test@example.com' }) },
      { key: taskId, headers, value: body({ status: 'started', startedAt: new Date().toISOString() }) },
      { key: taskId, headers, value: body({ status: 'completed', result: 'Found 5 products' }) },
    ],
    timeout: 30000,
  });
  await producer.disconnect();
}
