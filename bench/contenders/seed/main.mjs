// The document's stack as it shows it: kafkajs with `eachMessage`, pg, a transaction and a send for each message.
//
// Settings are those of the document's examples. Its `acks: 1` is left out: kafkajs refuses it with `idempotent`. At least once: what
// dies between the commit and the send loses the event, what dies before the offset is committed is done again.

import { Kafka, Partitioners, logLevel } from 'kafkajs';
import pg from 'pg';

import { Rejected, decide, decode, taskIdOf } from '../rules.mjs';

const { KAFKA_BROKERS, KAFKA_GROUP_ID, DATABASE_URL, TASK_STATUS_TOPIC, WEB_CRAWL_REQUEST_TOPIC, TASK_EVENTS_TOPIC } = process.env;
/** Not in the document: how many partitions kafkajs works on at a time. */
const concurrently = Number(process.env.PARTITIONS_CONCURRENTLY ?? 1);

const retry = { initialRetryTime: 100, retries: 3 };
const kafka = new Kafka({
  clientId: 'task-manager', brokers: KAFKA_BROKERS.split(','), connectionTimeout: 3000, requestTimeout: 30000, retry, logLevel: logLevel.ERROR,
});
const producer = kafka.producer({
  allowAutoTopicCreation: true, transactionTimeout: 30000, maxInFlightRequests: 1, idempotent: true,
  createPartitioner: Partitioners.DefaultPartitioner,
});
const consumer = kafka.consumer({
  groupId: KAFKA_GROUP_ID, sessionTimeout: 30000, heartbeatInterval: 3000, maxBytesPerPartition: 1048576, retry,
});
const pool = new pg.Pool({ connectionString: DATABASE_URL });

async function store(kind, decoded, id) {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    const found = await client.query('SELECT type, status, data, version, created_at AS "createdAt" FROM tasks WHERE id = $1 FOR UPDATE', [id]);
    const outcome = decide(kind, decoded, id, found.rows[0] ?? null);
    if (outcome) {
      const { task, event, traceId } = outcome;
      if (found.rows.length === 0) {
        await client.query(
          'INSERT INTO tasks (id, type, status, data, version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)',
          [id, task.type, task.status, task.data, task.version, task.createdAt, task.updatedAt],
        );
      } else {
        await client.query('UPDATE tasks SET status = $2, data = $3, version = $4, updated_at = $5 WHERE id = $1', [
          id, task.status, task.data, task.version, task.updatedAt,
        ]);
      }
      await client.query(
        'INSERT INTO task_events (task_id, version, kind, from_status, to_status, data, at, trace_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)',
        [id, event.version, event.kind, event.from, event.to, event.data, event.at, traceId],
      );
    }
    await client.query('COMMIT');
    return outcome;
  } catch (error) {
    await client.query('ROLLBACK');
    throw error;
  } finally {
    client.release();
  }
}

async function handle(topic, message) {
  try {
    const kind = topic === WEB_CRAWL_REQUEST_TOPIC ? 'request' : 'status';
    const decoded = decode(message);
    const outcome = await store(kind, decoded, taskIdOf(kind, decoded));
    if (!outcome) return;
    await producer.send({ topic: TASK_EVENTS_TOPIC, messages: [outcome.published], timeout: 30000 });
    if (outcome.announced) await producer.send({ topic: TASK_STATUS_TOPIC, messages: [outcome.announced], timeout: 30000 });
  } catch (error) {
    if (!(error instanceof Rejected || error instanceof SyntaxError)) throw error;
    await producer.send({ topic: `${topic}.dlq`, messages: [{ key: message.key, value: message.value }], timeout: 30000 });
  }
}

consumer.on(consumer.events.GROUP_JOIN, () => console.log('ready'));
await producer.connect();
await consumer.connect();
await consumer.subscribe({ topics: [TASK_STATUS_TOPIC, WEB_CRAWL_REQUEST_TOPIC], fromBeginning: true });
await consumer.run({
  eachMessage: ({ topic, message }) => handle(topic, message),
  autoCommit: true, autoCommitInterval: 5000, autoCommitThreshold: 100, partitionsConsumedConcurrently: concurrently,
});

process.on('SIGTERM', async () => {
  await consumer.disconnect();
  await producer.disconnect();
  await pool.end();
  process.exit(0);
});
