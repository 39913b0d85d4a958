-- beside: yes
--
-- Here: who gave up what waits, and a batch as one call.
--
-- A batch is committed by one call, which checks all that it was decided on and writes everything or nothing.
--
-- The name carries a version: a later form comes beside this one, so that hosts of two versions run side by side.
-- The build before doesn't call it, and so may run beside this migration.
--
-- The order of the statements is the order of the locks: progress, tasks that change, wakeups, routes, new tasks. It must
-- not come from a plan, so arrays come in id order and each row is found from its array element. Nor may a plan come from
-- statistics, which say of a table that grew that it is empty: hence the settings, and LATERAL (… LIMIT 1).

ALTER TABLE taskhost.wakeups ADD COLUMN given_up_by text;

COMMENT ON COLUMN taskhost.wakeups.given_up_by IS
    'Who gave it up: its owner makes a dead letter of it when its turn comes, without asking its plugin.';

CREATE FUNCTION taskhost.taskhost_commit_1(
    -- The partition, and where its owner left it.
    my_group text, my_topic text, my_partition integer, my_epoch bigint,
    seen_batch bigint, from_offset bigint, last_token uuid,
    -- Where it goes.
    new_token uuid, to_offset bigint, new_frame bytea, known_published bigint DEFAULT NULL, new_worked bigint DEFAULT 0,
    at_time timestamptz DEFAULT now(),
    n_consumed bigint DEFAULT 0, n_applied bigint DEFAULT 0, n_ignored bigint DEFAULT 0, n_deferred bigint DEFAULT 0,
    n_dead_letters bigint DEFAULT 0, n_timers bigint DEFAULT 0,
    -- Tasks that change, in id order, with the version that was read.
    u_ids text[] DEFAULT NULL, u_seen bigint[] DEFAULT NULL, u_status text[] DEFAULT NULL, u_data text[] DEFAULT NULL,
    u_version bigint[] DEFAULT NULL, u_updated_at timestamptz[] DEFAULT NULL,
    -- Rows that were decided, and timers that are set or cancelled.
    seen_rows uuid[] DEFAULT NULL, t_tasks text[] DEFAULT NULL, t_names text[] DEFAULT NULL,
    -- Routes in order: the key of the advisory lock, the name, the number of the activation that decided.
    r_keys bigint[] DEFAULT NULL, r_names text[] DEFAULT NULL, r_numbers bigint[] DEFAULT NULL,
    -- New tasks, in id order.
    c_ids text[] DEFAULT NULL, c_types text[] DEFAULT NULL, c_status text[] DEFAULT NULL, c_data text[] DEFAULT NULL,
    c_version bigint[] DEFAULT NULL, c_created_at timestamptz[] DEFAULT NULL, c_updated_at timestamptz[] DEFAULT NULL,
    -- Events.
    e_tasks text[] DEFAULT NULL, e_version bigint[] DEFAULT NULL, e_number integer[] DEFAULT NULL,
    e_kind text[] DEFAULT NULL, e_from text[] DEFAULT NULL, e_to text[] DEFAULT NULL, e_data text[] DEFAULT NULL,
    e_at timestamptz[] DEFAULT NULL, e_cause_topic text[] DEFAULT NULL, e_cause_partition integer[] DEFAULT NULL,
    e_cause_offset bigint[] DEFAULT NULL, e_cause bytea[] DEFAULT NULL,
    e_trace text[] DEFAULT NULL, e_foreign_trace text[] DEFAULT NULL,
    e_decider integer[] DEFAULT NULL, e_attempt integer[] DEFAULT NULL, e_seed uuid[] DEFAULT NULL,
    -- Wakeups that are done, new, that go on waiting, and that wait for their turn.
    done_rows uuid[] DEFAULT NULL,
    w_ids uuid[] DEFAULT NULL, w_kind text[] DEFAULT NULL, w_tasks text[] DEFAULT NULL, w_names text[] DEFAULT NULL,
    w_routes text[] DEFAULT NULL, w_due timestamptz[] DEFAULT NULL, w_sequence bigint[] DEFAULT NULL,
    w_attempt integer[] DEFAULT NULL, w_since timestamptz[] DEFAULT NULL, w_reason text[] DEFAULT NULL,
    w_cause bytea[] DEFAULT NULL, w_why text[] DEFAULT NULL, w_tries integer[] DEFAULT NULL,
    w_since_worked bigint[] DEFAULT NULL, w_place bigint[] DEFAULT NULL, w_counts_from timestamptz[] DEFAULT NULL,
    p_ids uuid[] DEFAULT NULL, p_due timestamptz[] DEFAULT NULL, p_attempt integer[] DEFAULT NULL,
    p_reason text[] DEFAULT NULL, p_why text[] DEFAULT NULL, p_tries integer[] DEFAULT NULL,
    p_since_worked bigint[] DEFAULT NULL, p_tasks text[] DEFAULT NULL,
    turned_rows uuid[] DEFAULT NULL,
    settled_tasks text[] DEFAULT NULL,
    -- What few batches have: {"letters", "replays", "failed", "starts"}, and the keys, payloads and times of the letters.
    rare jsonb DEFAULT NULL, rare_keys bytea[] DEFAULT NULL, rare_values bytea[] DEFAULT NULL,
    rare_times timestamptz[] DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $commit$
DECLARE
    hits bigint;
    named text[];
    timer_rows uuid[];
BEGIN
    -- 0. What the commit itself runs under. A function's own SET would end before the commit.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = 'TH000',
            MESSAGE = format('a batch needs the isolation read committed, not %s', current_setting('transaction_isolation')),
            HINT = 'set default_transaction_isolation to ''read committed'' for the role, the database or in the pooler';
    END IF;
    PERFORM set_config('synchronous_commit', 'on', true);

    -- 1. Progress, by compare-and-set.
    UPDATE taskhost.progress SET
        next_offset = to_offset, batch = batch + 1, batch_token = new_token,
        published = GREATEST(published, CASE WHEN known_published <= batch THEN known_published END),
        consumed = consumed + n_consumed, applied = applied + n_applied, ignored = ignored + n_ignored,
        deferred = deferred + n_deferred, dead_letters = dead_letters + n_dead_letters, timers = timers + n_timers,
        worked_ms = GREATEST(worked_ms, new_worked)
    WHERE group_id = my_group AND topic = my_topic AND partition = my_partition AND epoch = my_epoch
      AND batch = seen_batch AND next_offset = from_offset AND batch_token IS NOT DISTINCT FROM last_token;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'TH001', MESSAGE = 'the partition is not where its owner left it';
    END IF;

    -- 2. Tasks that change.
    IF cardinality(u_ids) > 0 THEN
        UPDATE taskhost.tasks SET status = new.status, data = new.data::json, version = new.version, updated_at = new.updated_at
        FROM unnest(u_ids, u_seen, u_status, u_data, u_version, u_updated_at)
                AS new (id, seen, status, data, version, updated_at)
            CROSS JOIN LATERAL (SELECT ctid AS place FROM taskhost.tasks WHERE id = new.id LIMIT 1) AS at
        WHERE tasks.ctid = at.place AND tasks.id = new.id AND tasks.version = new.seen;
        GET DIAGNOSTICS hits = ROW_COUNT;
        IF hits <> cardinality(u_ids) THEN
            -- Those that this transaction did not write.
            SELECT array_agg(changed.id) INTO named FROM unnest(u_ids) AS changed (id)
            WHERE (SELECT xmin FROM taskhost.tasks WHERE id = changed.id LIMIT 1)
                IS DISTINCT FROM pg_current_xact_id()::xid;
            RAISE EXCEPTION USING ERRCODE = 'TH002', MESSAGE = 'tasks were changed since they were read',
                DETAIL = to_json(named)::text;
        END IF;
    END IF;

    -- 3. Own rows, and timers that are set or cancelled, whoever owns them: all locked before one of them is removed.
    IF cardinality(t_tasks) > 0 THEN
        SELECT array_agg(timer.id) INTO timer_rows FROM unnest(t_tasks, t_names) AS changed (task_id, name)
        CROSS JOIN LATERAL (
            SELECT id FROM taskhost.wakeups
            WHERE kind = 'timer' AND wakeups.task_id = changed.task_id AND wakeups.name = changed.name LIMIT 1
        ) AS timer;
    END IF;
    IF cardinality(seen_rows) > 0 OR cardinality(timer_rows) > 0 THEN
        SELECT count(*) FILTER (WHERE own) INTO hits FROM (
            SELECT id, group_id = my_group AND topic = my_topic AND partition = my_partition AND id = ANY (seen_rows) AS own
            FROM taskhost.wakeups WHERE id = ANY (seen_rows || timer_rows) ORDER BY id FOR UPDATE) AS locked;
        IF hits <> coalesce(cardinality(seen_rows), 0) THEN
            RAISE EXCEPTION USING ERRCODE = 'TH003', MESSAGE = 'what was decided is no longer there',
                DETAIL = format('%s of %s rows', hits, cardinality(seen_rows));
        END IF;
    END IF;

    -- 4. Routes. The check is a statement of its own: one with the locks would read what was there before it waited.
    IF cardinality(r_keys) > 0 THEN
        PERFORM pg_advisory_xact_lock_shared(route.key) FROM unnest(r_keys) AS route (key);
        SELECT array_agg(routes.route) INTO named FROM unnest(r_names, r_numbers) AS routes (route, number)
        WHERE routes.number <> coalesce((
            SELECT current.number FROM taskhost.activations current
            WHERE current.route = routes.route ORDER BY current.number DESC LIMIT 1), 0);
        IF named IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'TH004', MESSAGE = 'another version of a plugin was activated',
                DETAIL = to_json(named)::text;
        END IF;
    END IF;

    -- 5. New tasks.
    IF cardinality(c_ids) > 0 THEN
        INSERT INTO taskhost.tasks (id, type, status, data, version, created_at, updated_at)
        SELECT new.id, new.type, new.status, new.data::json, new.version, new.created_at, new.updated_at
        FROM unnest(c_ids, c_types, c_status, c_data, c_version, c_created_at, c_updated_at)
            AS new (id, type, status, data, version, created_at, updated_at)
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS hits = ROW_COUNT;
        IF hits <> cardinality(c_ids) THEN
            RAISE EXCEPTION USING ERRCODE = 'TH005', MESSAGE = 'tasks were created by another partition',
                DETAIL = json_build_object('expected', cardinality(c_ids), 'missing', cardinality(c_ids) - hits)::text;
        END IF;
    END IF;

    -- 6. Events: the only statement of this function that writes task_events.
    IF cardinality(e_tasks) > 0 THEN
        INSERT INTO taskhost.task_events (task_id, version, number, kind, from_status, to_status, data, at,
            cause_topic, cause_partition, cause_offset, cause, trace_id, foreign_trace_id, decider, attempt, seed)
        SELECT new.task_id, new.version, new.number, new.kind, new.from_status, new.to_status, new.data::json, new.at,
            new.cause_topic, new.cause_partition, new.cause_offset, new.cause, new.trace_id, new.foreign_trace_id,
            new.decider, new.attempt, new.seed
        FROM unnest(e_tasks, e_version, e_number, e_kind, e_from, e_to, e_data, e_at, e_cause_topic, e_cause_partition,
                e_cause_offset, e_cause, e_trace, e_foreign_trace, e_decider, e_attempt, e_seed)
            AS new (task_id, version, number, kind, from_status, to_status, data, at, cause_topic, cause_partition,
                cause_offset, cause, trace_id, foreign_trace_id, decider, attempt, seed);
    END IF;

    -- Wakeups. Removals first, so that a new timer finds its name free.
    IF cardinality(done_rows) > 0 OR cardinality(timer_rows) > 0 THEN
        DELETE FROM taskhost.wakeups
        WHERE id = ANY (done_rows) AND group_id = my_group AND topic = my_topic AND partition = my_partition;
        GET DIAGNOSTICS hits = ROW_COUNT;
        IF hits <> coalesce(cardinality(done_rows), 0) THEN
            RAISE EXCEPTION USING ERRCODE = 'TH003', MESSAGE = 'what is done with is no longer there';
        END IF;
        DELETE FROM taskhost.wakeups WHERE id = ANY (timer_rows) AND kind = 'timer';
    END IF;
    IF cardinality(w_ids) > 0 THEN
        INSERT INTO taskhost.wakeups (group_id, topic, partition, id, kind, task_id, name, route, due, sequence, attempt, since,
            reason, cause, why, tries, since_worked, place, counts_from)
        SELECT my_group, my_topic, my_partition, new.*
        FROM unnest(w_ids, w_kind, w_tasks, w_names, w_routes, w_due, w_sequence, w_attempt, w_since, w_reason, w_cause,
            w_why, w_tries, w_since_worked, w_place, w_counts_from) AS new;
    END IF;
    IF cardinality(p_ids) > 0 THEN
        -- One that was given up meanwhile has its next turn at once.
        UPDATE taskhost.wakeups SET due = CASE WHEN given_up_by IS NULL THEN new.due ELSE at_time END, counts_from = new.due, attempt = new.attempt, reason = new.reason,
            why = new.why, tries = new.tries, since_worked = new.since_worked, task_id = new.task_id
        FROM unnest(p_ids, p_due, p_attempt, p_reason, p_why, p_tries, p_since_worked, p_tasks)
            AS new (id, due, attempt, reason, why, tries, since_worked, task_id)
        WHERE group_id = my_group AND topic = my_topic AND partition = my_partition
          AND wakeups.id = new.id AND wakeups.id = ANY (p_ids);
        GET DIAGNOSTICS hits = ROW_COUNT;
        IF hits <> cardinality(p_ids) THEN
            RAISE EXCEPTION USING ERRCODE = 'TH003', MESSAGE = 'what goes on waiting is no longer there';
        END IF;
    END IF;
    IF cardinality(turned_rows) > 0 THEN
        UPDATE taskhost.wakeups SET why = 'turn', due = NULL, counts_from = NULL
        WHERE id = ANY (turned_rows) AND group_id = my_group AND topic = my_topic AND partition = my_partition
          AND kind = 'deferred';
    END IF;

    -- What few batches have.
    IF rare IS NOT NULL THEN
        -- A record that was given up before is decided once more after a reset to an earlier place: its dead letter has the
        -- same id, tells what is wrong now, and is open again unless a replay is under way.
        INSERT INTO taskhost.dead_letters (group_id, topic, partition, id, record_topic, record_partition, record_offset,
            record_timestamp, key, value, headers, code, reason, backtrace, stage, attempts, task_id, route,
            plugin_name, plugin_version, plugin_digest, failed_at, source, replays, sequence, holds)
        SELECT my_group, my_topic, my_partition, new.id, new.record_topic, new.record_partition, new.record_offset,
            new.record_timestamp, new.key, new.value, new.headers::json, new.code, new.reason, new.backtrace, new.stage,
            new.attempts, new.task_id, new.route, new.plugin_name, new.plugin_version, new.plugin_digest, new.failed_at,
            new.source, new.replays, new.sequence, new.holds
        FROM ROWS FROM (
            jsonb_to_recordset(rare -> 'letters') AS (id uuid, record_topic text, record_partition integer,
                record_offset bigint, record_timestamp bigint, headers text, code text, reason text, backtrace text,
                stage text, attempts integer, task_id text, route text, plugin_name text, plugin_version text,
                plugin_digest text, source text, replays integer, sequence bigint, holds boolean),
            unnest(rare_keys), unnest(rare_values), unnest(rare_times)
        ) AS new (id, record_topic, record_partition, record_offset, record_timestamp, headers, code, reason, backtrace,
            stage, attempts, task_id, route, plugin_name, plugin_version, plugin_digest, source, replays, sequence, holds,
            key, value, failed_at)
        ON CONFLICT (group_id, id) DO UPDATE SET code = EXCLUDED.code, reason = EXCLUDED.reason,
            backtrace = EXCLUDED.backtrace, stage = EXCLUDED.stage, attempts = EXCLUDED.attempts,
            task_id = EXCLUDED.task_id, route = EXCLUDED.route, plugin_name = EXCLUDED.plugin_name,
            plugin_version = EXCLUDED.plugin_version, plugin_digest = EXCLUDED.plugin_digest,
            failed_at = EXCLUDED.failed_at, sequence = EXCLUDED.sequence, holds = EXCLUDED.holds, state_at = now(),
            state = CASE WHEN dead_letters.wakeup IS NULL THEN 'open' ELSE dead_letters.state END;

        -- Only what is being replayed; each has one element here.
        UPDATE taskhost.dead_letters d SET state = new.state, state_at = now(), wakeup = new.wakeup, republish = false,
            replays = d.replays + new.counts
        FROM jsonb_to_recordset(rare -> 'replays') AS new (id uuid, state text, wakeup uuid, counts integer)
            CROSS JOIN LATERAL (SELECT ctid AS place FROM taskhost.dead_letters
                WHERE group_id = my_group AND id = new.id LIMIT 1) AS at
        WHERE d.ctid = at.place AND d.group_id = my_group AND d.id = new.id AND d.state IN ('replaying', 'waiting');
        GET DIAGNOSTICS hits = ROW_COUNT;
        IF hits <> jsonb_array_length(rare -> 'replays') THEN
            RAISE EXCEPTION USING ERRCODE = 'TH003', MESSAGE = 'a dead letter is not being replayed any more';
        END IF;
        UPDATE taskhost.dead_letters d SET code = new.code, reason = new.reason, backtrace = new.backtrace, stage = new.stage,
            attempts = new.attempts, task_id = new.task_id, route = new.route, plugin_name = new.plugin_name,
            plugin_version = new.plugin_version, plugin_digest = new.plugin_digest
        FROM jsonb_to_recordset(rare -> 'failed') AS new (id uuid, code text, reason text, backtrace text, stage text,
                attempts integer, task_id text, route text, plugin_name text, plugin_version text, plugin_digest text)
            CROSS JOIN LATERAL (SELECT ctid AS place FROM taskhost.dead_letters
                WHERE group_id = my_group AND id = new.id LIMIT 1) AS at
        WHERE d.ctid = at.place AND d.group_id = my_group AND d.id = new.id;

        INSERT INTO taskhost.activation_starts (group_id, topic, partition, route, number, first_offset, batch)
        SELECT my_group, my_topic, my_partition, new.route, new.number, new.first_offset, seen_batch + 1
        FROM jsonb_to_recordset(rare -> 'starts') AS new (route text, number bigint, first_offset bigint)
        ON CONFLICT DO NOTHING;
    END IF;

    -- The first message of each settled task that isn't free gets its turn, with the rows as this batch leaves them.
    IF cardinality(settled_tasks) > 0 THEN
        WITH asked AS MATERIALIZED (
            SELECT my_group AS group_id, my_topic AS topic, my_partition AS partition, one.task_id,
                (SELECT id FROM taskhost.tasks WHERE id = one.task_id LIMIT 1) IS NOT NULL AS is_there
            FROM unnest(settled_tasks) AS one (task_id)
        ), heads AS (
            SELECT asked.*, head.id, head.sequence, head.place
            FROM asked CROSS JOIN LATERAL (SELECT * FROM ((
                SELECT id, sequence, place, why, due FROM taskhost.wakeups
                WHERE group_id = asked.group_id AND topic = asked.topic AND partition = asked.partition
                  AND task_id = asked.task_id AND kind = 'deferred' AND why <> 'task-missing'
                ORDER BY sequence, place LIMIT 1
            ) UNION ALL (
                SELECT id, sequence, place, why, due FROM taskhost.wakeups
                WHERE group_id = asked.group_id AND topic = asked.topic AND partition = asked.partition
                  AND task_id = asked.task_id AND kind = 'deferred' AND why = 'task-missing' AND asked.is_there
                ORDER BY sequence, place LIMIT 1
            )) AS firsts ORDER BY sequence, place LIMIT 1) AS head
            WHERE head.due IS NULL OR head.why = 'task-missing' AND head.due > at_time
        ), turns AS (
            SELECT id FROM heads AS asked
            WHERE NOT EXISTS (SELECT FROM ((
                SELECT sequence FROM taskhost.dead_letters
                WHERE group_id COLLATE "POSIX" = asked.group_id AND topic COLLATE "POSIX" = asked.topic
                  AND partition = asked.partition AND task_id COLLATE "POSIX" = asked.task_id
                  AND holds AND state COLLATE "POSIX" IN ('open', 'replaying', 'parked')
                  AND code COLLATE "POSIX" <> 'task-missing'
                ORDER BY sequence LIMIT 1
            ) UNION ALL (SELECT * FROM (
                SELECT sequence FROM taskhost.dead_letters
                WHERE group_id COLLATE "POSIX" = asked.group_id AND topic COLLATE "POSIX" = asked.topic
                  AND partition = asked.partition AND task_id COLLATE "POSIX" = asked.task_id
                  AND holds AND state COLLATE "POSIX" IN ('open', 'replaying', 'parked')
                  AND code COLLATE "POSIX" = 'task-missing'
                ORDER BY sequence LIMIT 1
            ) AS missing WHERE asked.is_there)) AS letter
            WHERE (letter.sequence, 0) < (asked.sequence, asked.place))
        )
        UPDATE taskhost.wakeups SET due = at_time WHERE group_id = my_group AND id = ANY (ARRAY(SELECT id FROM turns));
    END IF;

    -- One outbox frame.
    INSERT INTO taskhost.outbox (group_id, topic, partition, batch, frame)
    VALUES (my_group, my_topic, my_partition, seen_batch + 1, new_frame);
END
$commit$;

COMMENT ON FUNCTION taskhost.taskhost_commit_1 IS
    'Commits a batch: checks all that it was decided on and writes everything, or raises TH000 (wrong isolation), TH001 (partition lost), TH002 (tasks changed; DETAIL names them), TH003 (rows gone), TH004 (another activation) or TH005 (creation raced).';

-- What a batch is decided on, in one statement without locks. `of_anybody` asks whoever claimed the partition.
CREATE FUNCTION taskhost.taskhost_read_1(
    my_group text, my_topic text, my_partition integer, my_epoch bigint, asked_tasks text[], asked_rows uuid[],
    of_anybody boolean DEFAULT false
) RETURNS TABLE (
    batch bigint, next_offset bigint, batch_token uuid, standby boolean, rows_found bigint,
    id text, type text, status text, data text, version bigint, created_at timestamptz, updated_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY INVOKER
SET enable_hashjoin = off
SET enable_mergejoin = off
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $read$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT p.batch, p.next_offset, p.batch_token, pg_is_in_recovery(),
        (SELECT count(*) FROM taskhost.wakeups w
         WHERE w.group_id = my_group AND w.topic = my_topic AND w.partition = my_partition AND w.id = ANY (asked_rows)),
        t.id, t.type, t.status, t.data::text, t.version, t.created_at, t.updated_at
    FROM taskhost.progress p
    LEFT JOIN (
        SELECT task.* FROM unnest(asked_tasks) AS asked (id)
        CROSS JOIN LATERAL (SELECT * FROM taskhost.tasks WHERE tasks.id = asked.id LIMIT 1) AS task
    ) AS t ON true
    WHERE p.group_id = my_group AND p.topic = my_topic AND p.partition = my_partition
      AND (p.epoch = my_epoch OR of_anybody);
END
$read$;

COMMENT ON FUNCTION taskhost.taskhost_read_1 IS
    'What a batch is decided on: where the partition is, how many of the rows are there, and those of the tasks that exist.';
