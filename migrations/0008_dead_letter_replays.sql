-- What becomes of dead letters: replayed, edited, discarded, sent again, brought in from elsewhere, and in the end forgotten.

ALTER TABLE dead_letters
    ADD COLUMN source       text        NOT NULL DEFAULT 'record' CHECK (source IN ('record', 'timer', 'outgoing')),
    ADD COLUMN state        text        NOT NULL DEFAULT 'open' CHECK (state IN
        ('open', 'replaying', 'waiting', 'parked', 'applied', 'ignored', 'discarded', 'republished')),
    ADD COLUMN state_at     timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN replays      integer     NOT NULL DEFAULT 0 CHECK (replays >= 0),
    ADD COLUMN republish    boolean     NOT NULL DEFAULT false,
    ADD COLUMN wakeup       uuid,
    ADD COLUMN edits        integer     NOT NULL DEFAULT 0 CHECK (edits >= 0),
    ADD COLUMN edited_value bytea,
    ADD COLUMN decided_by   text,
    ADD COLUMN note         text,
    ADD COLUMN imported     text,
    ADD CHECK ((state IN ('replaying', 'waiting')) = (wakeup IS NOT NULL));

-- Until now nothing but their form told them apart.
UPDATE dead_letters SET source = 'outgoing' WHERE stage = 'publish';
UPDATE dead_letters SET source = 'timer'
WHERE stage = 'decide' AND json_array_length(headers) = 1 AND headers -> 0 ->> 'name' = 'timerName'
  AND key = convert_to(task_id, 'UTF8');

DROP INDEX dead_letters_time;
-- One for each way of looking: the newest first, page by page, of all or of those that one thing names.
CREATE INDEX dead_letters_time ON dead_letters (group_id, created_at, record_offset, id);
CREATE INDEX dead_letters_by_topic ON dead_letters (group_id, topic, created_at, record_offset, id);
CREATE INDEX dead_letters_by_code ON dead_letters (group_id, code, created_at, record_offset, id);
CREATE INDEX dead_letters_by_plugin ON dead_letters (group_id, plugin_name, created_at, record_offset, id);
CREATE INDEX dead_letters_by_task ON dead_letters (group_id, task_id, created_at, record_offset, id);
-- What nobody has seen to yet: looked at most, and counted again and again.
CREATE INDEX dead_letters_unsettled ON dead_letters (group_id, state, created_at, record_offset, id) INCLUDE (topic)
    WHERE state IN ('open', 'replaying', 'waiting', 'parked');
-- What may be forgotten one day, the oldest first.
CREATE INDEX dead_letters_settled ON dead_letters (group_id, state_at, id)
    WHERE state IN ('applied', 'ignored', 'discarded', 'republished');
CREATE UNIQUE INDEX dead_letters_wakeup ON dead_letters (group_id, wakeup) WHERE wakeup IS NOT NULL;

COMMENT ON COLUMN dead_letters.source IS 'What was given up: a record of the log, a timer, or a message that its topic refused. Only records are counted in progress.';
COMMENT ON COLUMN dead_letters.state IS 'open: nobody has seen to it. replaying: a wakeup stands for it. waiting: its replay waits for its task. parked: replayed too often. applied, ignored: how its replay ended. discarded, republished: what a person decided. In progress a record is counted under dead_letters but while it is waiting, applied or ignored.';
COMMENT ON COLUMN dead_letters.state_at IS 'Since when it is in that state.';
COMMENT ON COLUMN dead_letters.replays IS 'How often it was decided again.';
COMMENT ON COLUMN dead_letters.republish IS 'Whether what it waits for is to be sent to its topic again, instead of being decided.';
COMMENT ON COLUMN dead_letters.wakeup IS 'The wakeup that stands for it.';
COMMENT ON COLUMN dead_letters.edits IS 'How often its payload was edited; `value` stays as it came.';
COMMENT ON COLUMN dead_letters.edited_value IS 'The payload that is decided, if it was edited.';
COMMENT ON COLUMN dead_letters.decided_by IS 'Who replayed, sent again or discarded it last.';
COMMENT ON COLUMN dead_letters.note IS 'Why it was discarded.';
COMMENT ON COLUMN dead_letters.imported IS 'Where it was imported from; null if this group gave up on it.';

CREATE TABLE dead_letter_edits (
    group_id text COLLATE "C" NOT NULL,
    id       uuid        NOT NULL,
    number   integer     NOT NULL CHECK (number > 0),
    value    bytea,
    by       text        NOT NULL,
    reason   text        NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, id, number),
    FOREIGN KEY (group_id, id) REFERENCES dead_letters (group_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE dead_letter_edits IS 'Each edit of a dead letter''s payload: what it became, who did it and why.';

-- A wakeup may stand for a dead letter that is decided again. Its cause is in the dead letter's row.
ALTER TABLE wakeups
    DROP CONSTRAINT wakeups_kind_check,
    ADD CONSTRAINT wakeups_kind_check CHECK (kind IN ('deferred', 'timer', 'replay')),
    ADD COLUMN place bigint GENERATED ALWAYS AS IDENTITY;

CREATE INDEX wakeups_replay ON wakeups (group_id, topic, partition, place) WHERE kind = 'replay';

COMMENT ON COLUMN wakeups.place IS 'Order in which they were made: of replays, and of messages of a task that wait at the same sequence.';
COMMENT ON COLUMN wakeups.task_id IS 'The task; for a replay the one that the dead letter was for, or the dead letter''s id: what is decided says whose it is.';
