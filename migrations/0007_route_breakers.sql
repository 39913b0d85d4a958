-- What people order the breakers of routes, and versions that were rolled back.

CREATE TABLE breaker_orders (
    route  text COLLATE "C" NOT NULL,
    number bigint      NOT NULL CHECK (number > 0),
    state  text        NOT NULL CHECK (state IN ('open', 'closed', 'held-closed')),
    since  timestamptz NOT NULL DEFAULT now(),
    by     text        NOT NULL,
    reason text        NOT NULL,
    PRIMARY KEY (route, number)
);

COMMENT ON TABLE breaker_orders IS
    'Append-only: the highest number of a route is what a person ordered its breaker last, for all hosts. A route without a row opens and closes by itself.';
COMMENT ON COLUMN breaker_orders.number IS 'From 1 without gaps. A host carries each out once.';
COMMENT ON COLUMN breaker_orders.state IS
    'open: nothing of the route is decided until another order. closed: it is closed, and may open by itself again. held-closed: it stays closed, whatever fails.';
COMMENT ON COLUMN breaker_orders.by IS 'Who ordered it.';

ALTER TABLE activations
    ADD COLUMN probation   boolean NOT NULL DEFAULT false,
    ADD COLUMN rollback_of bigint CHECK (rollback_of < number);

COMMENT ON COLUMN activations.probation IS
    'Whether it is replaced by the version before if it trips its route''s breaker soon. Not the first one of a route, not a rollback, not a version that a person forced.';
COMMENT ON COLUMN activations.rollback_of IS 'The activation that tripped the breaker and that this one replaces by itself; null for all others.';

-- Without a foreign key, as for activation_starts.
CREATE TABLE rolled_back_versions (
    route      text COLLATE "C" NOT NULL,
    digest     text        NOT NULL,
    config     text        NOT NULL,
    activation bigint      NOT NULL,
    since      timestamptz NOT NULL DEFAULT now(),
    by         text        NOT NULL,
    reason     text        NOT NULL,
    PRIMARY KEY (route, digest, config)
);

COMMENT ON TABLE rolled_back_versions IS
    'Versions that tripped their route''s breaker on probation. Written in the transaction of the rollback; neither a file nor a command activates one again unless it is forced, and then the row goes.';
COMMENT ON COLUMN rolled_back_versions.config IS 'Empty: whatever its configuration. Else only with this one, as the same version with another was there before.';
COMMENT ON COLUMN rolled_back_versions.activation IS 'The last activation of it that was rolled back.';
COMMENT ON COLUMN rolled_back_versions.by IS 'The host that rolled it back.';
COMMENT ON COLUMN rolled_back_versions.reason IS 'The figures, and one fault as an example.';
