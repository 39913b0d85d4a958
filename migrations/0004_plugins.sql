-- Which plugin decides, now and at any time before.

CREATE TABLE plugin_versions (
    digest     text PRIMARY KEY CHECK (digest ~ '^[0-9a-f]{64}$'),
    name       text        NOT NULL,
    version    text        NOT NULL,
    bytes      bytea       NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE plugin_versions IS
    'The bytes of every plugin version that ever decided something: a host without the file takes it from here, and history can be decided again.';
COMMENT ON COLUMN plugin_versions.digest IS 'SHA-256 of the bytes in hexadecimal.';

CREATE TABLE activations (
    route  text COLLATE "C" NOT NULL,
    number bigint      NOT NULL CHECK (number > 0),
    digest text        NOT NULL REFERENCES plugin_versions (digest),
    config text        NOT NULL,
    since  timestamptz NOT NULL DEFAULT now(),
    by     text        NOT NULL,
    reason text        NOT NULL,
    PRIMARY KEY (route, number)
);

COMMENT ON TABLE activations IS
    'Append-only: the highest number of a route is what decides there. A batch compares it under a shared advisory lock, an activation inserts the next one under the exclusive lock.';
COMMENT ON COLUMN activations.number IS 'From 1 without gaps; a new one is inserted only on top of the one its activator saw.';
COMMENT ON COLUMN activations.config IS 'The configuration that the plugin is given with this activation.';
COMMENT ON COLUMN activations.by IS 'Who or what activated it.';
