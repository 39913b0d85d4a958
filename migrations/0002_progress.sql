-- How far each partition is, and what it still owes Kafka.

CREATE TABLE progress (
    group_id     text COLLATE "C" NOT NULL,
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL CHECK (partition >= 0),
    topic_id     uuid,
    next_offset  bigint CHECK (next_offset >= 0),
    batch        bigint  NOT NULL DEFAULT 0 CHECK (batch >= 0),
    batch_token  uuid,
    epoch        bigint  NOT NULL DEFAULT 0,
    owners       text[]  NOT NULL DEFAULT '{}',
    published    bigint CHECK (published >= 0 AND published <= batch),
    consumed     bigint  NOT NULL DEFAULT 0,
    applied      bigint  NOT NULL DEFAULT 0,
    ignored      bigint  NOT NULL DEFAULT 0,
    deferred     bigint  NOT NULL DEFAULT 0,
    dead_letters bigint  NOT NULL DEFAULT 0,
    timers       bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (group_id, topic, partition),
    CHECK ((next_offset IS NULL) = (topic_id IS NULL)),
    CHECK (next_offset IS NOT NULL OR batch = 0),
    CHECK (consumed >= applied + ignored + dead_letters)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE progress IS
    'One row for each partition of a consumer group. A batch locks it first and advances it last, by compare-and-set: that fences a host that lost the partition.';
COMMENT ON COLUMN progress.topic_id IS 'Kafka''s id of the topic when the partition was started, so that a recreated topic is noticed.';
COMMENT ON COLUMN progress.next_offset IS 'The next record to decide; null until the partition was started.';
COMMENT ON COLUMN progress.batch IS 'Number of the last committed batch.';
COMMENT ON COLUMN progress.batch_token IS 'Random token of the attempt that committed the last batch: tells whether a COMMIT without an answer took place.';
COMMENT ON COLUMN progress.epoch IS 'Raised by each claim; every write but the claim and that of published names the epoch it was made under.';
COMMENT ON COLUMN progress.owners IS 'Transactional ids of everybody who may still have a Kafka transaction open for this partition.';
COMMENT ON COLUMN progress.published IS 'Highest batch known to be published: a lower bound, only ever raised. The watermark itself is the group''s offset in Kafka.';
COMMENT ON COLUMN progress.consumed IS 'Records taken from the log: always applied + ignored + dead_letters + those that wait as deferred wakeups.';
COMMENT ON COLUMN progress.applied IS 'Records that created or changed their task.';
COMMENT ON COLUMN progress.ignored IS 'Records that changed nothing, on purpose.';
COMMENT ON COLUMN progress.deferred IS 'Records that ever began to wait; each is counted again where it ended.';
COMMENT ON COLUMN progress.dead_letters IS 'Records that were given up and kept whole.';
COMMENT ON COLUMN progress.timers IS 'Timers that fired: causes, but no records.';

CREATE TABLE outbox (
    group_id  text COLLATE "C" NOT NULL,
    topic     text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    batch     bigint  NOT NULL CHECK (batch > 0),
    frame     bytea   NOT NULL,
    PRIMARY KEY (group_id, topic, partition, batch)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- A frame lives for milliseconds: compressing it would cost more than it saves.
ALTER TABLE outbox ALTER COLUMN frame SET STORAGE EXTERNAL;

COMMENT ON TABLE outbox IS
    'The outgoing records of each committed batch until Kafka has them. Frames up to the watermark may be removed by anyone at any time.';
COMMENT ON COLUMN outbox.frame IS 'One byte with the format''s number, then postcard.';
