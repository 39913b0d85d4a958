// The rules of the document as a team would write them in JavaScript: what both kafkajs contenders decide with.
//
// `decide` is given a decoded message and its task, or null, and answers what becomes of the task. It says the same as the two
// plugins that taskhost is shipped with.

export class Rejected extends Error {}
/** The task doesn't exist yet: to be tried again. */
export class TooEarly extends Error {}

const EMAIL = /^[^\s@<>]+@[^\s@<>]+$/;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;
const KINDS = { new: 'task.created', started: 'task.started', completed: 'task.completed', error: 'task.failed' };

/** A record as the document has it: an envelope, or a body alone. */
export function decode(message) {
  const value = JSON.parse(message.value.toString());
  const enveloped = typeof value.headers === 'object' && typeof value.message === 'object';
  const headers = enveloped ? value.headers : {};
  const body = enveloped ? value.message : value;
  if (typeof headers.traceId !== 'string') throw new Rejected('invalid-meta-field');
  return { headers, body, at: new Date(Number(message.timestamp)).toISOString(), key: message.key?.toString() };
}

/** The id of the task that a message is about. */
export function taskIdOf(kind, { headers, body, key }) {
  if (kind === 'request') {
    if (typeof headers.requestId !== 'string') throw new Rejected('task-id-missing');
    return headers.requestId;
  }
  const id = body.taskId ?? headers.taskId ?? key;
  if (typeof id !== 'string' || id === '') throw new Rejected('task-id-missing');
  if (headers.taskId !== undefined && headers.taskId !== id) throw new Rejected('task-id-mismatch');
  return id;
}

/** The task's next state with its event and its messages; null if nothing changes. */
export function decide(kind, decoded, id, task) {
  return kind === 'request' ? decideRequest(decoded, id, task) : decideStatus(decoded, id, task);
}

function decideRequest({ headers, body, at }, id, task) {
  if (typeof body.userEmail !== 'string' || !EMAIL.test(body.userEmail)) throw new Rejected('invalid-email');
  if (typeof body.userQuery !== 'string' || body.userQuery.trim() === '') throw new Rejected('query-blank');
  if (body.userQuery.length > 10_000) throw new Rejected('query-too-long');
  checkUrl(body.originalUrl);
  checkTime(body.requestedAt, 'invalid-requested-at');
  if (task) return null;
  const { userEmail, userQuery, originalUrl, requestedAt } = body;
  const data = { userEmail, userQuery, originalUrl, requestedAt, receivedAt: at };
  const announced = { taskId: id, userEmail, userQuery, originalUrl, receivedAt: at, status: 'new' };
  return { ...next(headers, at, id, null, 'new', data, data), announced: envelope(headers, at, id, announced) };
}

function decideStatus({ headers, body, at }, id, task) {
  const { taskId, status, ...gained } = body;
  if (!(status in KINDS)) throw new Rejected('unknown-status');
  checkTime(body.startedAt, 'invalid-started-at');
  checkTime(body.finishedAt, 'invalid-finished-at');
  if (status === 'completed') gained.result = body.result ?? null;
  if (status === 'error') gained.error = body.error ?? null;
  if (!task) {
    if (status !== 'new') throw new TooEarly(`no task ${id} yet`);
    return next(headers, at, id, null, status, gained, gained);
  }
  const from = task.status;
  const open = from === 'new' || from === 'started';
  if (status === 'new' || (status === 'started' && from !== 'new')) return null;
  if (!open) {
    const same = status === from && (task.data.result ?? task.data.error) === (gained.result ?? gained.error);
    if (same) return null;
    throw new Rejected('illegal-transition');
  }
  return next(headers, at, id, task, status, { ...task.data, ...gained }, gained);
}

function next(headers, at, id, task, status, data, gained) {
  const version = Number(task?.version ?? 0) + 1;
  const type = task?.type ?? headers.taskType ?? headers.requestType ?? 'web-crawl';
  const event = {
    eventId: `${id}:${version}:0`, taskId: id, taskType: type, version, kind: KINDS[status],
    from: task?.status ?? null, to: status, at, data: gained,
  };
  return {
    task: { id, type, status, data, version, createdAt: task?.createdAt ?? at, updatedAt: at },
    event, traceId: headers.traceId, published: envelope(headers, at, id, event),
  };
}

/** The document's envelope, as a Kafka message. */
function envelope(headers, at, id, message) {
  const meta = {
    taskId: id, taskType: headers.taskType ?? headers.requestType, timestamp: at, traceId: headers.traceId, spanId: headers.spanId,
  };
  const out = { key: id, value: JSON.stringify({ headers: meta, message }) };
  return message.eventId ? { ...out, headers: { eventId: message.eventId } } : out;
}

function checkUrl(url) {
  if (typeof url !== 'string' || url.length > 8_192) throw new Rejected('url-too-long');
  let parsed;
  try {
    parsed = new URL(url);
  } catch {
    throw new Rejected('invalid-url');
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') throw new Rejected('invalid-url');
}

function checkTime(time, code) {
  if (time !== undefined && time !== null && !(typeof time === 'string' && TIME.test(time))) throw new Rejected(code);
}
