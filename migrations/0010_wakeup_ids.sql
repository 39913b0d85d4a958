-- The planner takes a table for as empty as it was when it was analysed last. This one is empty most of the time, and then
-- any index that can be used at all seems as good to it as the right one: it found a task's messages by reading the whole
-- group by the primary key, for each task anew. So each question has one index. That of the id has the group in a collation
-- of its own: equal is equal, but a condition on the group alone can't use it.

ALTER TABLE wakeups DROP CONSTRAINT wakeups_pkey;
CREATE UNIQUE INDEX wakeups_id ON wakeups (id, group_id COLLATE "POSIX");
ALTER TABLE wakeups REPLICA IDENTITY USING INDEX wakeups_id;

-- The same of the dead letter that a wakeup stands for.
DROP INDEX dead_letters_wakeup;
CREATE UNIQUE INDEX dead_letters_wakeup ON dead_letters (wakeup, group_id COLLATE "POSIX") WHERE wakeup IS NOT NULL;
