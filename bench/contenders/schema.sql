-- The tables of the contenders that aren't taskhost: its own, without what only it needs. An event row has no copy of its cause,
-- no plugin and no coordinates, so the peers write less.

CREATE TABLE tasks (
    id         text COLLATE "C" PRIMARY KEY,
    type       text        NOT NULL,
    status     text        NOT NULL,
    data       json        NOT NULL,
    version    bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE task_events (
    task_id     text COLLATE "C" NOT NULL,
    version     bigint      NOT NULL,
    kind        text        NOT NULL,
    from_status text,
    to_status   text        NOT NULL,
    data        json        NOT NULL,
    at          timestamptz NOT NULL,
    trace_id    text,
    PRIMARY KEY (task_id, version)
);
