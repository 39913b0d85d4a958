// scripts/test-kafka-connection.ts
import { Kafka } from 'kafkajs';

const kafka = new Kafka({
  clientId: 'test-client',
  brokers: ['localhost:9092'],
});

async function testConnection() {
  const admin = kafka.admin();
  await admin.connect();
  
  const topics = await admin.listTopics();
  console.log('Available topics:', topics);
  
  await admin.disconnect();
}
