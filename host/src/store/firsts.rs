//! The part of a statement that finds the first message that waits of each task, in each partition.

/// The first message of each of the tasks in `$1` in each partition that has one. Each is one look into the index.
macro_rules! firsts {
    () => {
        "firsts AS (
            SELECT one.task_id, first.* FROM unnest($1::text[]) AS one (task_id)
            CROSS JOIN LATERAL (
                SELECT group_id, topic, partition, ctid AS at, why, due FROM taskhost.wakeups
                WHERE kind COLLATE \"POSIX\" = 'deferred' AND task_id = one.task_id
                ORDER BY group_id, topic, partition, sequence, place LIMIT 1
            ) AS first
            UNION ALL
            SELECT firsts.task_id, next.* FROM firsts
            CROSS JOIN LATERAL (
                SELECT group_id, topic, partition, ctid AS at, why, due FROM taskhost.wakeups
                WHERE kind COLLATE \"POSIX\" = 'deferred' AND task_id = firsts.task_id
                  AND (group_id, topic, partition) > (firsts.group_id, firsts.topic, firsts.partition)
                ORDER BY group_id, topic, partition, sequence, place LIMIT 1
            ) AS next
        )"
    };
}
pub(super) use firsts;
