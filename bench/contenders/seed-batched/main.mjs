// The same stack as a careful team tunes it: kafkajs with `eachBatch`, one read and one write of Postgres for a batch, and one
// `sendBatch`.
//
// The write is one statement, so it is one transaction without BEGIN and COMMIT. A task's messages come from one partition, so nobody
// else changes it between read and write; the version says so if that is wrong. At least once: events are sent after the commit, so
// what dies between loses them.

import { Kafka, Partitioners, logLevel } from 'kafkajs';
import pg from 'pg';

import { Rejected, decide, decode, taskIdOf } from '../rules.mjs';

const { KAFKA_BROKERS, KAFKA_GROUP_ID, DATABASE_URL, TASK_STATUS_TOPIC, WEB_CRAWL_REQUEST_TOPIC, TASK_EVENTS_TOPIC } = process.env;
/** What kafkajs' documentation names for throughput: one batch of each of some partitions at a time. */
const concurrently = Number(process.env.PARTITIONS_CONCURRENTLY ?? 4);

const kafka = new Kafka({ clientId: 'task-manager', brokers: KAFKA_BROKERS.split(','), logLevel: logLevel.ERROR });
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
const consumer = kafka.consumer({ groupId: KAFKA_GROUP_ID, sessionTimeout: 30000, heartbeatInterval: 3000, maxBytesPerPartition: 1048576 });
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: concurrently });

/** kafkajs sends all messages for a partition as one record batch, of which a broker takes 1 MiB. */
const SENT_AT_ONCE = 1_000;

const READ = 'SELECT id, type, status, data, version, created_at AS "createdAt" FROM tasks WHERE id = ANY ($1)';
const WRITE = `
WITH written AS (
  INSERT INTO tasks (id, type, status, data, version, created_at, updated_at)
  SELECT id, type, status, data::json, version, created_at, updated_at
  FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
    AS new (id, type, status, data, version, created_at, updated_at)
  ON CONFLICT (id) DO UPDATE
    SET status = excluded.status, data = excluded.data, version = excluded.version, updated_at = excluded.updated_at
    WHERE tasks.version < excluded.version
  RETURNING id
), events AS (
  INSERT INTO task_events (task_id, version, kind, from_status, to_status, data, at, trace_id)
  SELECT task_id, version, kind, from_status, to_status, data::json, at, trace_id
  FROM unnest($8::text[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::text[])
    AS new (task_id, version, kind, from_status, to_status, data, at, trace_id)
)
SELECT count(*) AS written FROM written`;

const column = (rows, value) => rows.map(value);

async function write(outcomes) {
  // Only the last state of a task counts; its events all do.
  const tasks = [...new Map(outcomes.map(({ task }) => [task.id, task])).values()];
  tasks.sort((a, b) => (a.id < b.id ? -1 : 1));
  const values = [
    column(tasks, (task) => task.id), column(tasks, (task) => task.type), column(tasks, (task) => task.status),
    column(tasks, (task) => JSON.stringify(task.data)), column(tasks, (task) => task.version),
    column(tasks, (task) => task.createdAt), column(tasks, (task) => task.updatedAt),
    column(outcomes, ({ event }) => event.taskId), column(outcomes, ({ event }) => event.version),
    column(outcomes, ({ event }) => event.kind), column(outcomes, ({ event }) => event.from), column(outcomes, ({ event }) => event.to),
    column(outcomes, ({ event }) => JSON.stringify(event.data)), column(outcomes, ({ event }) => event.at),
    column(outcomes, ({ traceId }) => traceId),
  ];
  const { rows } = await pool.query({ name: 'write', text: WRITE, values });
  if (Number(rows[0].written) !== tasks.length) throw new Error('somebody else changed a task of this batch');
}

async function send(topic, messages) {
  for (let first = 0; first < messages.length; first += SENT_AT_ONCE) {
    await producer.sendBatch({ topicMessages: [{ topic, messages: messages.slice(first, first + SENT_AT_ONCE) }], acks: -1 });
  }
}

async function eachBatch({ batch, resolveOffset }) {
  const kind = batch.topic === WEB_CRAWL_REQUEST_TOPIC ? 'request' : 'status';
  const works = [];
  const rejected = [];
  for (const message of batch.messages) {
    try {
      const decoded = decode(message);
      works.push({ message, decoded, id: taskIdOf(kind, decoded) });
    } catch (error) {
      if (!(error instanceof Rejected || error instanceof SyntaxError)) throw error;
      rejected.push({ key: message.key, value: message.value });
    }
  }
  const ids = [...new Set(works.map(({ id }) => id))];
  const { rows } = await pool.query({ name: 'read', text: READ, values: [ids] });
  const tasks = new Map(rows.map((row) => [row.id, row]));
  const outcomes = [];
  for (const { message, decoded, id } of works) {
    try {
      const outcome = decide(kind, decoded, id, tasks.get(id) ?? null);
      if (!outcome) continue;
      tasks.set(id, outcome.task);
      outcomes.push(outcome);
    } catch (error) {
      if (!(error instanceof Rejected)) throw error;
      rejected.push({ key: message.key, value: message.value });
    }
  }
  if (outcomes.length > 0) await write(outcomes);
  await send(TASK_EVENTS_TOPIC, outcomes.map(({ published }) => published));
  await send(TASK_STATUS_TOPIC, outcomes.flatMap(({ announced }) => announced ?? []));
  await send(`${batch.topic}.dlq`, rejected);
  resolveOffset(batch.lastOffset());
}

consumer.on(consumer.events.GROUP_JOIN, () => console.log('ready'));
await producer.connect();
await consumer.connect();
await consumer.subscribe({ topics: [TASK_STATUS_TOPIC, WEB_CRAWL_REQUEST_TOPIC], fromBeginning: true });
await consumer.run({ eachBatchAutoResolve: false, partitionsConsumedConcurrently: concurrently, eachBatch });

process.on('SIGTERM', async () => {
  await consumer.disconnect();
  await producer.disconnect();
  await pool.end();
  process.exit(0);
});
