-- Usage: one row for each answered call, in partitions by day; what is rolled up from it; what was not known.

CREATE TABLE keys_call (
    at timestamptz NOT NULL,
    organization_id varchar(32) NOT NULL,
    key_id varchar(32) NOT NULL,
    version integer NOT NULL,
    code varchar(32) NOT NULL,
    endpoint varchar(256) NOT NULL DEFAULT '',
    region varchar(64) NOT NULL DEFAULT '',
    ip inet,
    user_agent varchar(256) NOT NULL DEFAULT '',
    request_id varchar(128) NOT NULL DEFAULT '',
    cost integer NOT NULL,
    calls integer NOT NULL DEFAULT 1 CHECK (calls > 0),
    trace jsonb,
    verifier_id varchar(32) NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
) PARTITION BY RANGE (at);
CREATE INDEX keys_call_of_key ON keys_call (key_id, at);
CREATE INDEX keys_call_by_xid ON keys_call (xid);
-- Where the worker was long away: verification never stops for want of a partition.
CREATE TABLE keys_call_default PARTITION OF keys_call DEFAULT;

CREATE TABLE keys_usage (
    organization_id varchar(32) NOT NULL,
    grain char(1) NOT NULL CHECK (grain IN ('m', 'h', 'd')),
    at timestamptz NOT NULL,
    key_id varchar(32) NOT NULL,
    endpoint varchar(256) NOT NULL COLLATE "C",
    region varchar(64) NOT NULL COLLATE "C",
    code varchar(32) NOT NULL COLLATE "C",
    calls bigint NOT NULL,
    cost bigint NOT NULL,
    PRIMARY KEY (organization_id, grain, at, key_id, endpoint, region, code)
);
CREATE INDEX keys_usage_of_key ON keys_usage (key_id, grain, at);

-- Every call of a transaction before this one is rolled up, and none after it. One row.
CREATE TABLE keys_usagemark (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    rolled_until xid8 NOT NULL
);
INSERT INTO keys_usagemark (rolled_until) VALUES ('0');

CREATE TABLE keys_unknowncalls (
    organization_id varchar(32) NOT NULL,
    minute timestamptz NOT NULL,
    network varchar(43) NOT NULL COLLATE "C",
    code varchar(32) NOT NULL COLLATE "C",
    calls bigint NOT NULL,
    PRIMARY KEY (organization_id, minute, network, code)
);

-- The last day on which a valid call asked a key for a scope.
CREATE TABLE keys_scopeuse (
    key_id varchar(32) NOT NULL,
    scope varchar(65) NOT NULL COLLATE "C",
    organization_id varchar(32) NOT NULL,
    last_used_on date NOT NULL,
    PRIMARY KEY (key_id, scope)
);

-- A reported batch of cached verdicts counts once.
CREATE TABLE keys_usagereport (
    verifier_id varchar(32) NOT NULL,
    batch varchar(64) NOT NULL COLLATE "C",
    organization_id varchar(32) NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (verifier_id, batch)
);

REVOKE INSERT, UPDATE, DELETE ON keys_call, keys_usage, keys_usagemark, keys_unknowncalls, keys_scopeuse, keys_usagereport FROM keystead_app;
-- Read through the parent, whose row security holds.
REVOKE ALL ON keys_call_default FROM keystead_app;
REVOKE INSERT, UPDATE, DELETE ON keys_organizationspend FROM keystead_app;

GRANT SELECT ON keys_tier TO keystead_verify;
GRANT UPDATE (window_seconds, window_start, current, previous, period, spent) ON keys_keyuse TO keystead_verify;
GRANT INSERT ON keys_call, keys_usagereport TO keystead_verify;
GRANT SELECT, INSERT, UPDATE ON keys_organizationspend, keys_unknowncalls, keys_scopeuse TO keystead_verify;
GRANT SELECT ON keys_usagereport TO keystead_verify;
