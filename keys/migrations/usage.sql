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
-- Partitions are read and written through their parent, whose row security holds; by themselves by the owner alone.
REVOKE ALL ON keys_call_default FROM keystead_app;
ALTER TABLE keys_call_default ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON keys_call_default TO keystead_owner USING (true) WITH CHECK (true);

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
-- For the operator's view over all organizations, and for retention.
CREATE INDEX keys_usage_by_time ON keys_usage (grain, at);

-- The same calls without their keys, by the place of each key, which it never changes: what is asked of an organization
-- or a project is as quick with 100,000 keys as with ten. A call of no key that there is has no place.
CREATE TABLE keys_usageplace (
    organization_id varchar(32) NOT NULL,
    grain char(1) NOT NULL CHECK (grain IN ('m', 'h', 'd')),
    at timestamptz NOT NULL,
    project_id varchar(32) NOT NULL,
    environment_id varchar(32) NOT NULL,
    endpoint varchar(256) NOT NULL COLLATE "C",
    region varchar(64) NOT NULL COLLATE "C",
    code varchar(32) NOT NULL COLLATE "C",
    calls bigint NOT NULL,
    cost bigint NOT NULL,
    PRIMARY KEY (organization_id, grain, at, project_id, environment_id, endpoint, region, code)
);
CREATE INDEX keys_usageplace_by_time ON keys_usageplace (grain, at);

-- The same calls by key alone, to find the busiest of 100,000: by week (UTC, from Monday) too. A week is the sum of the
-- days of it that are kept. Refused are those of the calls that were not VALID, cost is what the others spent.
CREATE TABLE keys_usagekey (
    organization_id varchar(32) NOT NULL,
    grain char(1) NOT NULL CHECK (grain IN ('h', 'd', 'w')),
    at timestamptz NOT NULL,
    key_id varchar(32) NOT NULL,
    calls bigint NOT NULL,
    refused bigint NOT NULL,
    cost bigint NOT NULL,
    PRIMARY KEY (organization_id, grain, at, key_id)
);
CREATE INDEX keys_usagekey_by_time ON keys_usagekey (grain, at);

-- The endpoints that an organization's roll-ups tell apart on a day (UTC): its first 1,000.
CREATE TABLE keys_usageendpoint (
    organization_id varchar(32) NOT NULL,
    day timestamptz NOT NULL,
    endpoint varchar(256) NOT NULL COLLATE "C",
    PRIMARY KEY (organization_id, day, endpoint)
);

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

-- Written by every call: room for the new version on the same page, and no index that nobody needs.
ALTER TABLE keys_keyuse SET (fillfactor = 80);
ALTER TABLE keys_secretuse SET (fillfactor = 80);
DROP INDEX keys_keyuse_key_id_cc9f5ac3_like;

REVOKE INSERT, UPDATE, DELETE ON keys_call, keys_usage, keys_usageplace, keys_usagekey, keys_usageendpoint, keys_usagemark, keys_unknowncalls,
    keys_scopeuse, keys_usagereport FROM keystead_app;
REVOKE INSERT, UPDATE, DELETE ON keys_organizationspend FROM keystead_app;

GRANT SELECT ON keys_tier TO keystead_verify;
GRANT UPDATE (window_seconds, window_start, current, previous, period, spent) ON keys_keyuse TO keystead_verify;
GRANT INSERT ON keys_call, keys_usagereport TO keystead_verify;
GRANT SELECT, INSERT, UPDATE ON keys_organizationspend, keys_unknowncalls, keys_scopeuse TO keystead_verify;
GRANT SELECT ON keys_usagereport TO keystead_verify;

-- Make a table for calls which is no partition yet, with the parent's columns, checks, indexes and no rights.
CREATE FUNCTION usage_new_table(name text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TABLE public.%I (LIKE public.keys_call INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    EXECUTE format('CREATE INDEX ON public.%I (key_id, at)', name);
    EXECUTE format('CREATE INDEX ON public.%I (xid)', name);
    EXECUTE format('REVOKE ALL ON public.%I FROM keystead_app', name);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY owner ON public.%I TO keystead_owner USING (true) WITH CHECK (true)', name);
END $$;

CREATE FUNCTION usage_partition(day date) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'keys_call_p' || to_char(day, 'YYYYMMDD')
$$;

-- The days (UTC) that have a partition of their own.
CREATE FUNCTION usage_days() RETURNS SETOF date LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'public.keys_call'::regclass AND c.relname ~ '^keys_call_p[0-9]{8}$'
$$;

-- Make the partitions from today (UTC) to so many days ahead; return how many were made, null where another session is
-- at it. Verification waits a quarter of a second for it at most, else it fails (lock_not_available): try again later.
--
-- Calls in the default partition came while nobody made partitions. It is set aside whole, as keys_call_left, which
-- takes no longer however much it holds; the calls that are not rolled up yet move at once, so that no count ever
-- misses one, and the others by usage_move_left.
CREATE FUNCTION usage_add_partitions(days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
    today CONSTANT date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    wanted date[];
    day date;
    is_default_used boolean;
BEGIN
    IF days IS NULL OR days NOT BETWEEN 0 AND 60 THEN
        RAISE EXCEPTION 'days are 0 to 60' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The same lock as the roll-up's, which must not meet a default partition that is about to go.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('keystead usage', 0)) THEN
        RETURN NULL;
    END IF;
    wanted := ARRAY(SELECT today + n FROM generate_series(0, days) n EXCEPT SELECT public.usage_days() ORDER BY 1);
    IF wanted = '{}' THEN
        RETURN 0;
    END IF;
    is_default_used := EXISTS (SELECT FROM public.keys_call_default);
    IF is_default_used THEN
        IF to_regclass('public.keys_call_left') IS NOT NULL THEN
            RAISE EXCEPTION 'calls of an earlier default partition are still to be moved' USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        wanted := ARRAY(SELECT unnest(wanted) UNION (SELECT DISTINCT (at AT TIME ZONE 'UTC')::date FROM public.keys_call_default
            EXCEPT SELECT public.usage_days()) ORDER BY 1);
        PERFORM public.usage_new_table('keys_call_next');
    END IF;
    FOREACH day IN ARRAY wanted LOOP
        PERFORM public.usage_new_table(public.usage_partition(day));
    END LOOP;
    IF is_default_used THEN
        PERFORM public.usage_set_aside();
    END IF;
    FOREACH day IN ARRAY wanted LOOP
        EXECUTE format('ALTER TABLE public.keys_call ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            public.usage_partition(day), day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
    IF is_default_used THEN
        WITH moved AS (
            DELETE FROM public.keys_call_left WHERE xid >= (SELECT rolled_until FROM public.keys_usagemark) RETURNING *
        )
        INSERT INTO public.keys_call SELECT * FROM moved;
    END IF;
    RETURN cardinality(wanted);
END $$;

-- Put an empty default partition (keys_call_next) in the place of the one that holds calls.
CREATE FUNCTION usage_set_aside() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
    most CONSTANT integer := 20000;
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM public.keys_call_default WHERE xid >= (SELECT rolled_until FROM public.keys_usagemark)
            LIMIT most + 1) c) > most THEN
        RAISE EXCEPTION 'too many calls are not rolled up yet' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    LOCK TABLE public.keys_call IN ACCESS EXCLUSIVE MODE;
    ALTER TABLE public.keys_call DETACH PARTITION public.keys_call_default;
    ALTER TABLE public.keys_call_default RENAME TO keys_call_left;
    ALTER TABLE public.keys_call_next RENAME TO keys_call_default;
    ALTER TABLE public.keys_call ATTACH PARTITION public.keys_call_default DEFAULT;
END $$;

-- Move some of the calls that were set aside to their days; return how many. They are all rolled up already: every
-- count has them, only the lists of single calls lack them until then.
CREATE FUNCTION usage_move_left(most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
    moved bigint;
BEGIN
    IF to_regclass('public.keys_call_left') IS NULL OR NOT pg_try_advisory_xact_lock(hashtextextended('keystead usage', 0)) THEN
        RETURN 0;
    END IF;
    WITH gone AS (
        DELETE FROM public.keys_call_left WHERE ctid = ANY (ARRAY(SELECT ctid FROM public.keys_call_left LIMIT most)) RETURNING *
    )
    INSERT INTO public.keys_call SELECT * FROM gone;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF NOT EXISTS (SELECT FROM public.keys_call_left) THEN
        DROP TABLE public.keys_call_left;
    END IF;
    RETURN moved;
END $$;

-- Add the calls of ended transactions to the roll-ups and move the mark behind them, in one transaction; return how
-- many rows that were, null where another session is at it. At most about `most` rows: call it until it returns less.
--
-- It goes by transactions and not by time, because a call with an early time may be committed late: whatever is below
-- the horizon has ended, so that nothing can appear there any more.
CREATE FUNCTION usage_roll_up(most integer DEFAULT 100000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark xid8;
    horizon xid8;
    lowest xid8;
    beyond xid8;
    rolled bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('keystead usage', 0)) THEN
        RETURN NULL;
    END IF;
    SELECT rolled_until INTO STRICT mark FROM public.keys_usagemark FOR UPDATE;
    IF mark > pg_snapshot_xmax(pg_current_snapshot()) THEN
        RETURN public.usage_renumber(mark);
    END IF;
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    SELECT xid INTO lowest FROM public.keys_call WHERE xid >= mark AND xid < horizon ORDER BY xid LIMIT 1;
    -- The calls of one transaction stay together: so far, and without the transaction that starts there.
    SELECT xid INTO beyond FROM public.keys_call WHERE xid > lowest AND xid < horizon ORDER BY xid OFFSET most LIMIT 1;
    horizon := coalesce(beyond, horizon);
    IF lowest IS NULL THEN
        rolled := 0;
    ELSE
        PERFORM public.usage_admit_endpoints(lowest, horizon);
        rolled := public.usage_add_up(lowest, horizon);
    END IF;
    UPDATE public.keys_usagemark SET rolled_until = horizon WHERE rolled_until < horizon;
    RETURN rolled;
END $$;

-- Give places to endpoints that an organization's day has not seen yet, in the order in which they came.
CREATE FUNCTION usage_admit_endpoints(since xid8, until xid8) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.keys_usageendpoint (organization_id, day, endpoint)
    SELECT n.organization_id, n.day, n.endpoint FROM (
        SELECT c.organization_id, c.day, c.endpoint, row_number() OVER (PARTITION BY c.organization_id, c.day ORDER BY min(c.at), c.endpoint)
            + (SELECT count(*) FROM public.keys_usageendpoint e WHERE e.organization_id = c.organization_id AND e.day = c.day) AS place
        FROM (SELECT organization_id, date_trunc('day', at, 'UTC') AS day, endpoint COLLATE "C" AS endpoint, at
            FROM public.keys_call WHERE xid >= since AND xid < until AND endpoint <> '') c
        WHERE NOT EXISTS (SELECT FROM public.keys_usageendpoint e
            WHERE e.organization_id = c.organization_id AND e.day = c.day AND e.endpoint = c.endpoint)
        GROUP BY c.organization_id, c.day, c.endpoint
    ) n WHERE n.place <= 1000
$$;

-- Add the calls of some transactions to their minutes, hours and days, three ways; return how many rows they were.
CREATE FUNCTION usage_add_up(since xid8, until xid8) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rolled bigint;
BEGIN
    WITH minutes AS MATERIALIZED (
        SELECT c.organization_id, date_trunc('minute', c.at, 'UTC') AS at, c.key_id, c.region, c.code,
            CASE WHEN c.endpoint = '' OR e.endpoint IS NOT NULL THEN c.endpoint ELSE 'other' END AS endpoint,
            sum(c.calls) AS calls, sum(c.cost) AS cost, count(*) AS entries
        FROM public.keys_call c LEFT JOIN public.keys_usageendpoint e
            ON e.organization_id = c.organization_id AND e.day = date_trunc('day', c.at, 'UTC') AND e.endpoint = c.endpoint COLLATE "C"
        WHERE c.xid >= since AND c.xid < until
        GROUP BY 1, 2, 3, 4, 5, 6
    ), added AS (
        INSERT INTO public.keys_usage AS u (organization_id, grain, at, key_id, endpoint, region, code, calls, cost)
        SELECT m.organization_id, g.grain, date_trunc(g.unit, m.at, 'UTC'), m.key_id, m.endpoint, m.region, m.code, sum(m.calls), sum(m.cost)
        FROM minutes m CROSS JOIN (VALUES ('m', 'minute'), ('h', 'hour'), ('d', 'day')) AS g (grain, unit)
        GROUP BY 1, 2, 3, 4, 5, 6, 7
        ON CONFLICT (organization_id, grain, at, key_id, endpoint, region, code)
            DO UPDATE SET calls = u.calls + excluded.calls, cost = u.cost + excluded.cost
    ), by_place AS (
        INSERT INTO public.keys_usageplace AS u (organization_id, grain, at, project_id, environment_id, endpoint, region, code, calls, cost)
        SELECT m.organization_id, g.grain, date_trunc(g.unit, m.at, 'UTC'), coalesce(k.project_id, ''), coalesce(k.environment_id, ''),
            m.endpoint, m.region, m.code, sum(m.calls), sum(m.cost)
        FROM minutes m LEFT JOIN public.keys_apikey k ON k.id = m.key_id AND k.organization_id = m.organization_id
            CROSS JOIN (VALUES ('m', 'minute'), ('h', 'hour'), ('d', 'day')) AS g (grain, unit)
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ON CONFLICT (organization_id, grain, at, project_id, environment_id, endpoint, region, code)
            DO UPDATE SET calls = u.calls + excluded.calls, cost = u.cost + excluded.cost
    ), by_key AS (
        INSERT INTO public.keys_usagekey AS u (organization_id, grain, at, key_id, calls, refused, cost)
        SELECT m.organization_id, g.grain, date_trunc(g.unit, m.at, 'UTC'), m.key_id, sum(m.calls),
            coalesce(sum(m.calls) FILTER (WHERE m.code <> 'VALID'), 0), coalesce(sum(m.cost) FILTER (WHERE m.code = 'VALID'), 0)
        FROM minutes m CROSS JOIN (VALUES ('h', 'hour'), ('d', 'day'), ('w', 'week')) AS g (grain, unit)
        GROUP BY 1, 2, 3, 4
        ON CONFLICT (organization_id, grain, at, key_id)
            DO UPDATE SET calls = u.calls + excluded.calls, refused = u.refused + excluded.refused, cost = u.cost + excluded.cost
    )
    SELECT coalesce(sum(entries), 0) INTO rolled FROM minutes;
    RETURN rolled;
END $$;

-- After a restore into another server the numbers of transactions start anew, below the mark: what would come now was
-- taken for rolled up. Number the calls of the dump by this transaction, or by none where they are rolled up. A row
-- that was written here has its transaction's number as its xmin, one from the dump the restore's.
CREATE FUNCTION usage_renumber(mark xid8) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    renumbered bigint;
BEGIN
    UPDATE public.keys_call SET xid = CASE WHEN xid < mark THEN '0'::xid8 ELSE pg_current_xact_id() END WHERE xid::xid <> xmin;
    GET DIAGNOSTICS renumbered = ROW_COUNT;
    UPDATE public.keys_usagemark SET rolled_until = '1';
    RETURN renumbered;
END $$;

-- Since when each organization's usage is kept, by its plan; the days a little longer, see usage_retain.
CREATE FUNCTION usage_kept(OUT organization_id varchar, OUT since timestamptz, OUT days_since timestamptz) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT o.id, s.since, least(s.since - interval '1 day', date_trunc('month', now(), 'UTC'))
    FROM public.orgs_organization o JOIN public.orgs_plan p ON p.slug = o.plan_id
        CROSS JOIN LATERAL (SELECT now() - make_interval(days => p.usage_retention_days)) AS s (since)
$$;

-- The days on which some organization's calls are past keeping.
CREATE FUNCTION usage_past_days() RETURNS SETOF date LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT day FROM public.usage_days() AS day WHERE day::timestamp AT TIME ZONE 'UTC' < (SELECT max(since) FROM public.usage_kept()) ORDER BY 1
$$;

-- Delete the calls of a day that are past keeping and rolled up, as a whole where all are; return how many rows went,
-- null where the whole day did. Waits a quarter of a second for verification at most, else it fails.
CREATE FUNCTION usage_retain_calls(day date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms' AS $$
DECLARE
    name CONSTANT text := public.usage_partition(day);
    mark CONSTANT xid8 := (SELECT rolled_until FROM public.keys_usagemark);
    is_left boolean;
    gone bigint;
BEGIN
    IF day NOT IN (SELECT public.usage_past_days()) THEN
        RETURN 0;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE xid >= $1)', name) USING mark INTO is_left;
    IF NOT is_left AND (day + 1)::timestamp AT TIME ZONE 'UTC' <= (SELECT min(since) FROM public.usage_kept()) THEN
        EXECUTE format('DROP TABLE public.%I', name);
        RETURN NULL;
    END IF;
    EXECUTE format('DELETE FROM public.%I c USING public.usage_kept() k
        WHERE k.organization_id = c.organization_id AND c.at < k.since AND c.xid < $1', name) USING mark;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

-- Delete what else is past keeping: roll-ups (minutes after 7 days and hours after 400, a little later, so that the first
-- bucket that may be asked for is whole; all by the plan, but the days of the running month stay, which the month's
-- figures are; a week loses them one by one), unknown calls, reported batches, idempotency records.
CREATE FUNCTION usage_retain() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark CONSTANT xid8 := (SELECT rolled_until FROM public.keys_usagemark);
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['keys_usage', 'keys_usageplace', 'keys_usagekey'] LOOP
        EXECUTE format($sql$DELETE FROM public.%I WHERE grain = 'm' AND at < now() - interval '7 days 2 hours'$sql$, name);
        EXECUTE format($sql$DELETE FROM public.%I WHERE grain = 'h' AND at < now() - interval '402 days'$sql$, name);
        EXECUTE format($sql$DELETE FROM public.%I u USING public.usage_kept() k
            WHERE u.organization_id = k.organization_id AND u.grain IN ('m', 'h') AND u.at < k.since$sql$, name);
    END LOOP;
    DELETE FROM public.keys_usage u USING public.usage_kept() k WHERE u.organization_id = k.organization_id AND u.grain = 'd' AND u.at < k.days_since;
    DELETE FROM public.keys_usageplace u USING public.usage_kept() k WHERE u.organization_id = k.organization_id AND u.grain = 'd' AND u.at < k.days_since;
    WITH gone AS (
        DELETE FROM public.keys_usagekey u USING public.usage_kept() k
        WHERE u.organization_id = k.organization_id AND u.grain = 'd' AND u.at < k.days_since RETURNING u.*
    ), weeks AS (
        SELECT organization_id, date_trunc('week', at, 'UTC') AS at, key_id, sum(calls) AS calls, sum(refused) AS refused, sum(cost) AS cost
        FROM gone GROUP BY 1, 2, 3
    )
    UPDATE public.keys_usagekey u SET calls = u.calls - w.calls, refused = u.refused - w.refused, cost = u.cost - w.cost FROM weeks w
        WHERE u.organization_id = w.organization_id AND u.grain = 'w' AND u.at = w.at AND u.key_id = w.key_id;
    DELETE FROM public.keys_usagekey u USING public.usage_kept() k
        WHERE u.organization_id = k.organization_id AND u.grain = 'w' AND u.at < k.days_since AND u.calls = 0;
    DELETE FROM public.keys_call_default c USING public.usage_kept() k WHERE c.organization_id = k.organization_id AND c.at < k.since AND c.xid < mark;
    DELETE FROM public.keys_unknowncalls n USING public.usage_kept() k WHERE n.organization_id = k.organization_id AND n.minute < k.since;
    DELETE FROM public.keys_usageendpoint WHERE day < now() - interval '3 days';
    DELETE FROM public.keys_usagereport WHERE received_at < now() - interval '2 days';
    DELETE FROM public.keys_idempotencyrecord WHERE created_at < now() - interval '24 hours';
END $$;

REVOKE ALL ON FUNCTION usage_new_table(text), usage_partition(date), usage_days(), usage_add_partitions(integer), usage_set_aside(),
    usage_move_left(integer), usage_roll_up(integer), usage_admit_endpoints(xid8, xid8), usage_add_up(xid8, xid8), usage_renumber(xid8),
    usage_kept(), usage_past_days(), usage_retain_calls(date), usage_retain() FROM PUBLIC, keystead_app;
GRANT EXECUTE ON FUNCTION usage_add_partitions(integer), usage_move_left(integer), usage_roll_up(integer), usage_past_days(),
    usage_retain_calls(date), usage_retain() TO keystead_app;
