-- Why a cause waits, and the working time by which it grows older.

ALTER TABLE wakeups
    ADD COLUMN why          text    NOT NULL DEFAULT 'turn'
        CHECK (why IN ('turn', 'deferral', 'deadline', 'held', 'stranded')),
    ADD COLUMN tries        integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    ADD COLUMN since_worked bigint;

-- Until now only a plugin's deferral was counted.
UPDATE wakeups SET why = 'deferral' WHERE attempt > 0;

-- What is held on a route, to be made due when its probation ends.
CREATE INDEX wakeups_held ON wakeups (group_id, route) WHERE why = 'held';

-- What a partition's host can't decide, to be counted.
CREATE INDEX wakeups_stranded ON wakeups (group_id, topic, partition) WHERE why = 'stranded';

COMMENT ON COLUMN wakeups.why IS
    'What it waits for: its time or its turn, not having been decided yet; what the plugin deferred it for, so that a change of its task makes it due; another try after its deadline was exceeded; held, the end of the probation of a plugin that faulted at it; or, stranded, a host that can decide it, as its route is not configured or its cause is of a later version.';
COMMENT ON COLUMN wakeups.attempt IS 'How often the plugin deferred it.';
COMMENT ON COLUMN wakeups.tries IS 'How often in a row it exceeded its deadline.';
COMMENT ON COLUMN wakeups.since IS 'When it began to wait. For people: its age is counted by since_worked.';
COMMENT ON COLUMN wakeups.since_worked IS
    'progress.worked_ms when it began to wait. Null if its age counts from its next decision on: a timer, what was held, and what waited before this was counted.';

ALTER TABLE progress ADD COLUMN worked_ms bigint NOT NULL DEFAULT 0 CHECK (worked_ms >= 0);

COMMENT ON COLUMN progress.worked_ms IS
    'How long the partition has worked, in milliseconds: what waits grows older by this clock, so not during a pause, an outage or a night without a host. Only ever raised, by its owner, with batches and, while something waits, every 10 s.';
