-- beside: no
-- concurrently: task_events_of_task ON task_events (hashtextextended(task_id, 0))
--
-- The form of the history: what decided each event, and partitions by the month in which an event was stored.

CREATE TABLE deciders (
    number         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    identity       bytea       NOT NULL UNIQUE,
    route          text COLLATE "C" NOT NULL,
    activation     bigint      NOT NULL,
    plugin_name    text        NOT NULL,
    plugin_version text        NOT NULL,
    plugin_digest  text        NOT NULL,
    config         text        NOT NULL,
    interface      text        NOT NULL,
    topics         json        NOT NULL,
    since          timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE deciders IS
    'All that a decision depends on besides its task, its cause, the attempt and the seed. Append-only; an event names its row.';
COMMENT ON COLUMN deciders.identity IS 'SHA-256 of the columns below but since, so that each is here once.';
COMMENT ON COLUMN deciders.activation IS 'With route: the row of activations.';
COMMENT ON COLUMN deciders.plugin_digest IS 'SHA-256 of the component; its bytes are in plugin_versions.';
COMMENT ON COLUMN deciders.config IS 'The configuration that the plugin was given.';
COMMENT ON COLUMN deciders.interface IS 'The interface by which the host asked it.';
COMMENT ON COLUMN deciders.topics IS 'The real name of each logical topic, as configured then.';
COMMENT ON COLUMN deciders.since IS 'When it first decided something that was stored, by the database''s clock.';

-- What there is becomes the first partition. A host of before that still runs stores nothing any more: it names columns that
-- are no longer there, which blames no message.
ALTER TABLE task_events RENAME TO task_events_first;
ALTER TABLE task_events_first RENAME COLUMN recorded_at TO stored_at;
ALTER TABLE task_events_first RENAME COLUMN plugin_name TO earlier_plugin_name;
ALTER TABLE task_events_first RENAME COLUMN plugin_version TO earlier_plugin_version;
ALTER TABLE task_events_first RENAME COLUMN plugin_digest TO earlier_plugin_digest;
ALTER TABLE task_events_first
    DROP CONSTRAINT task_events_pkey,
    ALTER COLUMN earlier_plugin_name DROP NOT NULL,
    ALTER COLUMN earlier_plugin_version DROP NOT NULL,
    ALTER COLUMN earlier_plugin_digest DROP NOT NULL,
    ADD COLUMN decider integer,
    ADD COLUMN attempt integer,
    ADD COLUMN seed    uuid;
ALTER INDEX task_events_of_task RENAME TO task_events_first_of_task;

CREATE TABLE task_events (LIKE task_events_first INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (stored_at);
-- The only one, and small. That no event is there twice follows from the task's version, which an update has to find.
CREATE INDEX task_events_of_task ON task_events (hashtextextended(task_id, 0));

-- Until the next month; later, if a clock that was wrong stored something later. The rows are read once for that.
DO $$
DECLARE
    until timestamptz := (date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    early CONSTANT text := 'ALTER TABLE task_events_first ADD CONSTRAINT task_events_first_until CHECK (stored_at < %L) NOT VALID';
BEGIN
    EXECUTE format(early, until);
    BEGIN
        ALTER TABLE task_events_first VALIDATE CONSTRAINT task_events_first_until;
    EXCEPTION WHEN check_violation THEN
        SELECT (date_trunc('month', max(stored_at) AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
        INTO until FROM task_events_first;
        ALTER TABLE task_events_first DROP CONSTRAINT task_events_first_until;
        EXECUTE format(early, until);
        ALTER TABLE task_events_first VALIDATE CONSTRAINT task_events_first_until;
    END;
    EXECUTE format('ALTER TABLE task_events ATTACH PARTITION task_events_first FOR VALUES FROM (MINVALUE) TO (%L)', until);
    ALTER TABLE task_events_first DROP CONSTRAINT task_events_first_until;
END $$;

COMMENT ON TABLE task_events IS
    'The append-only history: folding a task''s events gives its row, and the recorded decider on the recorded causes gives the same events. A partition for each month, made ahead by the hosts.';
COMMENT ON TABLE task_events_first IS 'The events up to the end of the month in which the history was partitioned.';
COMMENT ON COLUMN task_events.version IS 'The version that the transition gave the task.';
COMMENT ON COLUMN task_events.number IS 'Number of the event within its transition, from 0.';
COMMENT ON COLUMN task_events.from_status IS 'The status before; null for a creation.';
COMMENT ON COLUMN task_events.at IS 'Time of the cause, which is the plugin''s now.';
COMMENT ON COLUMN task_events.cause_offset IS 'The record that caused it, or the one whose decision set the timer that did.';
COMMENT ON COLUMN task_events.cause IS 'The cause as stored, so that it can be decided again: one byte with the format''s number, then postcard.';
COMMENT ON COLUMN task_events.earlier_plugin_name IS 'With the next two: which plugin decided, of events that were stored before there were deciders.';
COMMENT ON COLUMN task_events.foreign_trace_id IS 'A trace id of the cause that is no W3C trace id, as it came.';
COMMENT ON COLUMN task_events.stored_at IS 'When the batch began to be written, by the database''s clock: the partition.';
COMMENT ON COLUMN task_events.decider IS 'The row of deciders; null if it is not known. Without a foreign key: Postgres would blame a message (SQLSTATE class 23) for a row that somebody removed.';
COMMENT ON COLUMN task_events.attempt IS 'How often the cause had been deferred, as the plugin was told.';
COMMENT ON COLUMN task_events.seed IS 'What the plugin''s unique values grow from.';

CREATE VIEW task_history AS
SELECT e.task_id, e.version, e.number, e.kind, e.from_status, e.to_status, e.data, e.at, e.cause_topic, e.cause_partition,
       e.cause_offset, e.cause, e.trace_id, e.foreign_trace_id, e.stored_at, e.decider, e.attempt, e.seed, d.route, d.activation,
       coalesce(d.plugin_name, e.earlier_plugin_name) AS plugin_name,
       coalesce(d.plugin_version, e.earlier_plugin_version) AS plugin_version,
       coalesce(d.plugin_digest, e.earlier_plugin_digest) AS plugin_digest
FROM task_events e LEFT JOIN deciders d ON d.number = e.decider;

COMMENT ON VIEW task_history IS 'The history with what decided each event, for people. To find a task''s, name the hash of its id too: hashtextextended(task_id, 0) = hashtextextended(<id>, 0).';
