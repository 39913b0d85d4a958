-- What a partition owes itself later, and what it gave up on.

CREATE TABLE wakeups (
    group_id  text COLLATE "C" NOT NULL,
    topic     text COLLATE "C" NOT NULL,
    partition integer     NOT NULL,
    id        uuid        NOT NULL,
    kind      text        NOT NULL CHECK (kind IN ('deferred', 'timer')),
    task_id   text COLLATE "C" NOT NULL,
    name      text,
    route     text        NOT NULL,
    due       timestamptz,
    sequence  bigint      NOT NULL,
    attempt   integer     NOT NULL,
    since     timestamptz NOT NULL,
    reason    text        NOT NULL,
    cause     bytea       NOT NULL,
    PRIMARY KEY (group_id, id),
    CHECK ((kind = 'timer') = (name IS NOT NULL)),
    CHECK (kind <> 'timer' OR due IS NOT NULL)
);

-- A task has one timer of a name, whichever partition owns it.
CREATE UNIQUE INDEX wakeups_timer ON wakeups (task_id, name) WHERE kind = 'timer';
-- What is due in a partition, earliest first.
CREATE INDEX wakeups_due ON wakeups (group_id, topic, partition, due) WHERE due IS NOT NULL;
-- The messages of a task that wait in a partition, in order.
CREATE INDEX wakeups_chain ON wakeups (group_id, topic, partition, task_id, sequence) WHERE kind = 'deferred';
-- The waiting messages to look at when a task changed.
CREATE INDEX wakeups_head ON wakeups (task_id) WHERE kind = 'deferred' AND due IS NOT NULL;

COMMENT ON TABLE wakeups IS
    'Timers, and messages that wait. Owned by the partition that the message came from: nobody else decides them, so no scheduler exists.';
COMMENT ON COLUMN wakeups.id IS 'Derived from the cause: deciding again makes the same row, a replaced timer another.';
COMMENT ON COLUMN wakeups.name IS 'A timer''s name within its task; null for a message.';
COMMENT ON COLUMN wakeups.due IS 'When to try. Null while a message waits behind an earlier one of its task and partition: only the first has a time.';
COMMENT ON COLUMN wakeups.sequence IS 'Order among a task''s waiting messages: the record''s offset.';
COMMENT ON COLUMN wakeups.attempt IS 'How often the cause was decided.';
COMMENT ON COLUMN wakeups.since IS 'When it began to wait.';
COMMENT ON COLUMN wakeups.cause IS 'The cause as stored: one byte with the format''s number, then postcard.';

CREATE TABLE dead_letters (
    group_id         text COLLATE "C" NOT NULL,
    id               uuid        NOT NULL,
    topic            text COLLATE "C" NOT NULL,
    partition        integer     NOT NULL,
    record_topic     text        NOT NULL,
    record_partition integer     NOT NULL,
    record_offset    bigint      NOT NULL,
    record_timestamp bigint      NOT NULL,
    key              bytea,
    value            bytea,
    headers          json        NOT NULL,
    code             text        NOT NULL,
    reason           text        NOT NULL,
    backtrace        text,
    stage            text        NOT NULL CHECK (stage IN ('decode', 'decide')),
    attempts         integer     NOT NULL,
    task_id          text COLLATE "C",
    route            text,
    plugin_name      text,
    plugin_version   text,
    plugin_digest    text,
    failed_at        timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, id),
    CHECK ((plugin_name IS NULL) = (plugin_digest IS NULL) AND (plugin_name IS NULL) = (plugin_version IS NULL))
);

CREATE INDEX dead_letters_time ON dead_letters (created_at);

COMMENT ON TABLE dead_letters IS
    'Messages given up on, kept whole with the reason. Written in the transaction of the batch that gave up on them.';
COMMENT ON COLUMN dead_letters.topic IS 'With partition: whose batch gave up on it.';
COMMENT ON COLUMN dead_letters.record_offset IS 'With record_topic and record_partition: where the record was read.';
COMMENT ON COLUMN dead_letters.record_timestamp IS 'The record''s own timestamp in milliseconds since 1970, however absurd; -1 if it has none.';
COMMENT ON COLUMN dead_letters.headers IS 'The record''s headers in order, each {"name", "text"}, or {"name", "hex"} if it is no UTF-8, or {"name"} if it is null.';
COMMENT ON COLUMN dead_letters.stage IS 'Where in the path of a message it failed.';
COMMENT ON COLUMN dead_letters.attempts IS 'How often it was decided.';
COMMENT ON COLUMN dead_letters.failed_at IS 'When it failed first.';
