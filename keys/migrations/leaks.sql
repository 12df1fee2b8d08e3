-- Leaks; the networks that a key is known from; what was found about keys when they were looked at.

ALTER TABLE keys_leak ADD CONSTRAINT leak_of_same FOREIGN KEY (key_id, organization_id) REFERENCES keys_apikey (id, organization_id);
REVOKE UPDATE, DELETE ON keys_leak FROM keystead_app;

CREATE TABLE keys_keynetwork (
    key_id varchar(32) NOT NULL,
    network varchar(43) NOT NULL COLLATE "C",
    organization_id varchar(32) NOT NULL,
    first_seen_at timestamptz NOT NULL,
    first_ip inet NOT NULL,
    first_region varchar(64) NOT NULL,
    last_seen_on date NOT NULL,
    is_due boolean NOT NULL,
    told_at timestamptz,
    PRIMARY KEY (key_id, network)
);
CREATE INDEX keys_keynetwork_due ON keys_keynetwork (organization_id) WHERE is_due;
CREATE INDEX keys_keynetwork_by_time ON keys_keynetwork (last_seen_on);

-- Of every call of a transaction before this one it is known where it came from, and of none after it. One row.
CREATE TABLE keys_networkmark (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    learned_until xid8 NOT NULL
);
-- What came before this was installed is nobody's news.
INSERT INTO keys_networkmark (learned_until) SELECT rolled_until FROM keys_usagemark;

CREATE TABLE keys_keyfinding (
    organization_id varchar(32) NOT NULL,
    finding varchar(16) NOT NULL COLLATE "C",
    key_id varchar(32) NOT NULL,
    PRIMARY KEY (organization_id, finding, key_id)
);
CREATE INDEX keys_keyfinding_of_key ON keys_keyfinding (key_id);

CREATE TABLE keys_healthrun (
    organization_id varchar(32) PRIMARY KEY,
    looked_at timestamptz NOT NULL,
    looked_at_all_at timestamptz NOT NULL
);

-- Since when a key carries a scope, so that one which was given yesterday is not called unused for a month. Null: since
-- it was made. Changing a key's scopes leaves the rows of those that stay.
ALTER TABLE keys_term ADD COLUMN since timestamptz;

CREATE OR REPLACE FUNCTION keys_follow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO public.keys_keyuse (key_id, organization_id) VALUES (NEW.id, NEW.organization_id);
        INSERT INTO public.keys_term (organization_id, term, key_id) SELECT NEW.organization_id, term, NEW.id FROM public.keys_terms_of(NEW) AS term;
    ELSIF (NEW.scopes, NEW.tags) IS DISTINCT FROM (OLD.scopes, OLD.tags) THEN
        DELETE FROM public.keys_term WHERE key_id = NEW.id AND term NOT IN (SELECT public.keys_terms_of(NEW));
        INSERT INTO public.keys_term (organization_id, term, key_id, since)
        SELECT NEW.organization_id, term, NEW.id, now() FROM public.keys_terms_of(NEW) AS term
        WHERE NOT EXISTS (SELECT FROM public.keys_term t WHERE t.key_id = NEW.id AND t.term = term.term);
    END IF;
    RETURN NULL;
END $$;

REVOKE INSERT, UPDATE, DELETE ON keys_keynetwork, keys_networkmark FROM keystead_app;
GRANT UPDATE (is_due, told_at) ON keys_keynetwork TO keystead_app;

-- Learn from the calls of ended transactions where keys are used from, and move the mark behind them, in one
-- transaction; return how many rows were looked at, null where another session is at it. At most about `most` rows:
-- call it until it returns less. It goes by transactions as usage_roll_up does, and for the same reason.
--
-- Valid calls that cost something are use (spec KEYS §5). A key's first network is where it lives, and no news; nor is
-- what came three days ago or longer, nor more than 20 networks of a key in a day (UTC): a fleet of phones. Of a key
-- that 1,000 networks are known of, no more are learned.
CREATE FUNCTION networks_learn(most integer DEFAULT 100000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark xid8;
    horizon xid8;
    lowest xid8;
    beyond xid8;
    looked_at bigint := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('keystead networks', 0)) THEN
        RETURN NULL;
    END IF;
    SELECT learned_until INTO STRICT mark FROM public.keys_networkmark FOR UPDATE;
    IF mark > pg_snapshot_xmax(pg_current_snapshot()) THEN
        -- Restored into another server (usage_renumber): go on with what is numbered there.
        UPDATE public.keys_networkmark SET learned_until = '1';
        RETURN 0;
    END IF;
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    SELECT xid INTO lowest FROM public.keys_call WHERE xid >= mark AND xid < horizon ORDER BY xid LIMIT 1;
    SELECT xid INTO beyond FROM public.keys_call WHERE xid > lowest AND xid < horizon ORDER BY xid OFFSET most LIMIT 1;
    horizon := coalesce(beyond, horizon);
    IF lowest IS NOT NULL THEN
        looked_at := public.networks_add(lowest, horizon);
    END IF;
    UPDATE public.keys_networkmark SET learned_until = horizon WHERE learned_until < horizon;
    RETURN looked_at;
END $$;

CREATE FUNCTION networks_add(since xid8, until xid8) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    looked_at bigint;
BEGIN
    WITH calls AS MATERIALIZED (
        SELECT organization_id, key_id, code, cost, at, ip, region FROM public.keys_call WHERE xid >= since AND xid < until
    ), seen AS MATERIALIZED (
        SELECT key_id, network(set_masklen(ip, CASE family(ip) WHEN 4 THEN 24 ELSE 56 END))::text AS network,
            min(organization_id) AS organization_id, min(at) AS first_at, max((at AT TIME ZONE 'UTC')::date) AS last_on,
            (array_agg(ip ORDER BY at))[1] AS ip, (array_agg(region ORDER BY at))[1] AS region
        FROM calls WHERE code = 'VALID' AND cost > 0 AND ip IS NOT NULL GROUP BY 1, 2
    ), again AS (
        UPDATE public.keys_keynetwork k SET last_seen_on = s.last_on FROM seen s
        WHERE k.key_id = s.key_id AND k.network = s.network COLLATE "C" AND k.last_seen_on < s.last_on
    ), had AS (
        SELECT k.key_id, count(*) AS networks FROM public.keys_keynetwork k
        WHERE k.key_id IN (SELECT key_id FROM seen) GROUP BY 1
    ), told AS (
        SELECT k.key_id, (k.first_seen_at AT TIME ZONE 'UTC')::date AS day, count(*) AS networks FROM public.keys_keynetwork k
        WHERE k.key_id IN (SELECT key_id FROM seen) AND (k.is_due OR k.told_at IS NOT NULL) GROUP BY 1, 2
    ), fresh AS (
        SELECT s.*, (s.first_at AT TIME ZONE 'UTC')::date AS day,
            row_number() OVER (PARTITION BY s.key_id ORDER BY s.first_at, s.network) + coalesce(h.networks, 0) AS place
        FROM seen s LEFT JOIN had h ON h.key_id = s.key_id
        WHERE NOT EXISTS (SELECT FROM public.keys_keynetwork k WHERE k.key_id = s.key_id AND k.network = s.network COLLATE "C")
    ), placed AS (
        SELECT f.*, coalesce(t.networks, 0) + count(*) FILTER (WHERE f.place > 1)
            OVER (PARTITION BY f.key_id, f.day ORDER BY f.first_at, f.network) AS place_of_day
        FROM fresh f LEFT JOIN told t ON t.key_id = f.key_id AND t.day = f.day
    ), added AS (
        INSERT INTO public.keys_keynetwork (key_id, network, organization_id, first_seen_at, first_ip, first_region, last_seen_on, is_due)
        SELECT key_id, network, organization_id, first_at, ip, region, last_on,
            place > 1 AND place_of_day <= 20 AND first_at > now() - interval '3 days'
        FROM placed WHERE place <= 1000
    )
    SELECT count(*) INTO looked_at FROM calls;
    RETURN looked_at;
END $$;

-- Forget networks from which nothing came for 400 days; return how many.
CREATE FUNCTION networks_retain() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM public.keys_keynetwork WHERE last_seen_on < (now() AT TIME ZONE 'UTC')::date - 400 AND NOT is_due;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

REVOKE ALL ON FUNCTION networks_learn(integer), networks_add(xid8, xid8), networks_retain() FROM PUBLIC, keystead_app;
GRANT EXECUTE ON FUNCTION networks_learn(integer), networks_retain() TO keystead_app;
