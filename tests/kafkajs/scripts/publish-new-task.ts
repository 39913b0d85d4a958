// scripts/publish-new-task.ts
import { Kafka } from 'kafkajs';

const kafka = new Kafka({
  clientId: 'test-publisher',
  brokers: ['localhost:9092'],
});

async function publishTestTask() {
  const producer = kafka.producer();
  await producer.connect();
  
  await producer.send({
    topic: 'requests-web-crawl',
    messages: [{
      key: 'test-task-1',
      value: JSON.stringify({
        userEmail: 'test@example.com',
        userQuery: 'Test query',
        originalUrl: 'https://example.com',
        requestedAt: new Date().toISOString(),
      }),
    }],
  });
  
  await producer.disconnect();
}
