-- From which record on each partition was decided under an activation.

-- Without a foreign key: Postgres would blame a message (SQLSTATE class 23) for a row of activations that somebody removed.
CREATE TABLE activation_starts (
    group_id     text COLLATE "C" NOT NULL,
    topic        text COLLATE "C" NOT NULL,
    partition    integer NOT NULL,
    route        text COLLATE "C" NOT NULL,
    number       bigint      NOT NULL,
    first_offset bigint      NOT NULL,
    batch        bigint      NOT NULL,
    since        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, partition, route, number)
);

COMMENT ON TABLE activation_starts IS
    'Where an activation took effect: a row for each partition that decided under it, written in the transaction of the first batch that did, never changed.';
COMMENT ON COLUMN activation_starts.topic IS 'With group_id and partition: whose batch it was.';
COMMENT ON COLUMN activation_starts.route IS 'With number: the row of activations.';
COMMENT ON COLUMN activation_starts.first_offset IS
    'The first record of the route that was decided under it; if a timer or a message that had waited was decided under it before any record, the record that was next then. No record of the route from here on was decided by the version before, and none before it by this one, but for those that waited: they are decided by what is current when their turn comes.';
COMMENT ON COLUMN activation_starts.batch IS 'The first batch that was committed under it.';
COMMENT ON COLUMN activation_starts.since IS 'When that batch began, by the database''s clock. For people: nothing is decided by it.';
