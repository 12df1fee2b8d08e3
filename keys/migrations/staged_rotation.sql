-- Staged rotations: what ends them, what a cancel gives back, and the evidence for their targets.

-- The end of a rotation is written once, whatever it was, and the report that it is overdue too.
CREATE FUNCTION keys_rotation_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nonnulls(OLD.completed_at, OLD.cancelled_at, OLD.superseded_at) > 0 THEN
        RAISE EXCEPTION 'a rotation that has ended stays as it is' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.overdue_at IS NOT NULL AND NEW.overdue_at IS DISTINCT FROM OLD.overdue_at THEN
        RAISE EXCEPTION 'a rotation is overdue once' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_rotation_fixed BEFORE UPDATE ON keys_rotation FOR EACH ROW EXECUTE FUNCTION keys_rotation_fixed();

CREATE FUNCTION keys_target_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.moved_at IS NOT NULL THEN
        RAISE EXCEPTION 'a target moves once' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_target_fixed BEFORE UPDATE ON keys_rotationtarget FOR EACH ROW EXECUTE FUNCTION keys_target_fixed();
ALTER TABLE keys_rotationtarget ADD CONSTRAINT rotation_target_length CHECK (octet_length(name) BETWEEN 1 AND 64);
ALTER TABLE keys_rotation ADD CONSTRAINT rotation_of_organization UNIQUE (id, organization_id);
ALTER TABLE keys_rotationtarget ADD CONSTRAINT rotation_target_of_same FOREIGN KEY (rotation_id, organization_id)
    REFERENCES keys_rotation (id, organization_id);

-- A key never changes its place, kind or creation; a revocation is final. Its version grows to the first number that no
-- secret of it has had; and goes back to the old one where the rotation that brought the newest was cancelled.
CREATE OR REPLACE FUNCTION keys_key_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- What people wrote of it can be erased with them, also afterwards.
    erased CONSTANT jsonb := (CASE WHEN NEW.description = '(erased)' THEN '{"description": ""}' ELSE '{}' END)::jsonb
        || (CASE WHEN NEW.revocation_note = '(erased)' THEN '{"revocation_note": ""}' ELSE '{}' END)::jsonb;
BEGIN
    IF (NEW.id, NEW.organization_id, NEW.project_id, NEW.environment_id, NEW.kind, NEW.created_at, NEW.created_by)
        IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.project_id, OLD.environment_id, OLD.kind, OLD.created_at, OLD.created_by) THEN
        RAISE EXCEPTION 'a key keeps its place, kind and creation' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.newest_version > OLD.newest_version AND NEW.newest_version
            <> (SELECT max(version) + 1 FROM public.keys_keysecret WHERE key_id = OLD.id)
        OR NEW.newest_version < OLD.newest_version AND NOT EXISTS (SELECT FROM public.keys_rotation
            WHERE key_id = OLD.id AND new_version = OLD.newest_version AND old_version = NEW.newest_version AND cancelled_at IS NOT NULL) THEN
        RAISE EXCEPTION 'a key''s version grows by one' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.revoked_at IS NOT NULL AND to_jsonb(NEW) || erased IS DISTINCT FROM to_jsonb(OLD) || erased THEN
        RAISE EXCEPTION 'a revoked key stays as it is' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

-- Whether a cancel gave a secret back while it was accepted: the key goes by it again.
CREATE FUNCTION keys_is_given_back(key text, secret integer, until timestamptz) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM public.keys_apikey k JOIN public.keys_rotation r ON r.key_id = k.id
        WHERE k.id = key AND k.newest_version = secret AND r.old_version = secret AND r.cancelled_at < until
            AND r.new_version = (SELECT max(version) FROM public.keys_keysecret s WHERE s.key_id = key))
$$;

-- A secret's acceptance only ends sooner, and never after its own expiry; but for a cancel, which takes the end away.
CREATE OR REPLACE FUNCTION keys_secret_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.key_id, NEW.organization_id, NEW.version, NEW.hint, NEW.created_at)
        IS DISTINCT FROM (OLD.key_id, OLD.organization_id, OLD.version, OLD.hint, OLD.created_at)
        OR NEW.accepted_until > OLD.accepted_until
        OR (OLD.accepted_until IS NOT NULL AND NEW.accepted_until IS NULL
            AND NOT public.keys_is_given_back(OLD.key_id, OLD.version, OLD.accepted_until))
        OR NEW.accepted_until > NEW.expires_at OR NEW.pepper_version < OLD.pepper_version THEN
        RAISE EXCEPTION 'a secret''s acceptance only ends sooner' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

-- A key that could not be used was silent for that reason alone: silence counts from when it is enabled again.
CREATE FUNCTION keys_hold_rotation() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.keys_rotation SET held_at = clock_timestamp()
        WHERE key_id = NEW.id AND completed_at IS NULL AND cancelled_at IS NULL AND superseded_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_hold_rotation AFTER UPDATE OF is_disabled, disabled_until ON keys_apikey FOR EACH ROW
    WHEN (OLD.is_disabled AND NOT NEW.is_disabled OR OLD.disabled_until IS DISTINCT FROM NEW.disabled_until)
    EXECUTE FUNCTION keys_hold_rotation();

-- So with the keys of an organization that was suspended, whether or not a worker ran meanwhile.
CREATE FUNCTION keys_hold_rotations() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.keys_rotation SET held_at = clock_timestamp()
        WHERE organization_id = NEW.id AND mode = 'staged' AND completed_at IS NULL AND cancelled_at IS NULL AND superseded_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_hold_rotations AFTER UPDATE OF suspended_at ON orgs_organization FOR EACH ROW
    WHEN (OLD.suspended_at IS NOT NULL AND NEW.suspended_at IS NULL) EXECUTE FUNCTION keys_hold_rotations();

-- A rotation runs for as long as its old secret is accepted, whoever ended that.
CREATE FUNCTION keys_follow_acceptance() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE public.keys_rotation SET grace_ends_at = NEW.accepted_until
        WHERE key_id = NEW.key_id AND old_version = NEW.version AND grace_ends_at > NEW.accepted_until
            AND completed_at IS NULL AND cancelled_at IS NULL AND superseded_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_follow_acceptance AFTER UPDATE OF accepted_until ON keys_keysecret FOR EACH ROW
    WHEN (NEW.accepted_until < OLD.accepted_until) EXECUTE FUNCTION keys_follow_acceptance();

-- Evidence. When each secret of a rotation was last used in each of its targets and, as '', outside all of them.
CREATE TABLE keys_rotationseen (
    rotation_id varchar(32) NOT NULL,
    name varchar(64) NOT NULL COLLATE "C",
    organization_id varchar(32) NOT NULL,
    old_last_used_at timestamptz,
    new_last_used_at timestamptz,
    PRIMARY KEY (rotation_id, name)
);
-- The last hour by minute: of the old secret by who used it, 200 sources a minute and then '*'; of the new one together.
CREATE TABLE keys_rotationuse (
    rotation_id varchar(32) NOT NULL,
    minute timestamptz NOT NULL,
    is_new boolean NOT NULL,
    name varchar(64) NOT NULL COLLATE "C",
    source varchar(320) NOT NULL COLLATE "C",
    organization_id varchar(32) NOT NULL,
    ip inet,
    user_agent varchar(256) NOT NULL,
    is_other boolean NOT NULL,
    calls bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (rotation_id, minute, is_new, name, source)
);
CREATE INDEX keys_rotationuse_by_minute ON keys_rotationuse (minute);

-- What a call says of a rotation, added up: the one place that knows which calls count.
CREATE FUNCTION rotation_uses(rotations text[], calls keys_call[]) RETURNS SETOF keys_rotationuse
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.id, date_trunc('minute', c.at, 'UTC'), v.is_new, coalesce(t.name, ''), v.source, r.organization_id,
        CASE WHEN NOT v.is_new THEN c.ip END, CASE WHEN v.is_new THEN '' ELSE c.user_agent END, false,
        sum(c.calls)::bigint, max(c.at)
    FROM public.keys_rotation r JOIN unnest(calls) AS c ON c.key_id = r.key_id AND c.version IN (r.old_version, r.new_version)
        CROSS JOIN LATERAL (SELECT c.version = r.new_version AS is_new,
            CASE WHEN c.version = r.new_version THEN '' ELSE coalesce(host(c.ip), '') || ' ' || c.user_agent END AS source) v
        LEFT JOIN public.keys_rotationtarget t ON t.rotation_id = r.id AND t.name = c.region COLLATE "C"
    WHERE r.id = ANY (rotations) AND c.code = 'VALID' AND c.cost > 0
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
$$;

CREATE FUNCTION rotation_add_up(uses keys_rotationuse[]) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO public.keys_rotationseen AS s (rotation_id, name, organization_id, old_last_used_at, new_last_used_at)
    SELECT u.rotation_id, u.name, u.organization_id, max(u.last_at) FILTER (WHERE NOT u.is_new), max(u.last_at) FILTER (WHERE u.is_new)
    FROM unnest(uses) AS u GROUP BY 1, 2, 3
    ON CONFLICT (rotation_id, name) DO UPDATE SET old_last_used_at = greatest(s.old_last_used_at, excluded.old_last_used_at),
        new_last_used_at = greatest(s.new_last_used_at, excluded.new_last_used_at);

    INSERT INTO public.keys_rotationuse AS k (rotation_id, minute, is_new, name, source, organization_id, ip, user_agent, is_other, calls, last_at)
    SELECT p.rotation_id, p.minute, p.is_new, p.name, CASE WHEN p.place > 200 THEN '*' ELSE p.source END, p.organization_id,
        CASE WHEN p.place <= 200 THEN p.ip END, CASE WHEN p.place > 200 THEN '' ELSE p.user_agent END, p.place > 200, sum(p.calls), max(p.last_at)
    FROM (
        SELECT u.*, CASE WHEN u.is_new OR e.source IS NOT NULL THEN 0 ELSE h.here
            + row_number() OVER (PARTITION BY u.rotation_id, u.minute, u.is_new, e.source IS NULL ORDER BY u.calls DESC, u.source) END AS place
        FROM unnest(uses) AS u
            CROSS JOIN LATERAL (SELECT count(*) AS here FROM public.keys_rotationuse x
                WHERE x.rotation_id = u.rotation_id AND x.minute = u.minute AND NOT x.is_new) h
            LEFT JOIN public.keys_rotationuse e ON e.rotation_id = u.rotation_id AND e.minute = u.minute AND e.is_new = u.is_new
                AND e.name = u.name AND e.source = u.source
        WHERE u.minute >= now() - interval '65 minutes'
    ) p
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ON CONFLICT (rotation_id, minute, is_new, name, source)
        DO UPDATE SET calls = k.calls + excluded.calls, last_at = greatest(k.last_at, excluded.last_at);
END $$;

-- Add the calls of some transactions to the evidence of the rotations that run, and let go what is older than an hour.
CREATE FUNCTION rotation_fold(since xid8, until xid8) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    running text[];
    keys text[];
BEGIN
    DELETE FROM public.keys_rotationuse WHERE minute < now() - interval '65 minutes';
    SELECT array_agg(id), array_agg(key_id) INTO running, keys FROM public.keys_rotation
        WHERE completed_at IS NULL AND cancelled_at IS NULL AND superseded_at IS NULL AND grace_ends_at > now();
    IF running IS NULL THEN
        RETURN;
    END IF;
    PERFORM public.rotation_add_up(ARRAY(SELECT u FROM public.rotation_uses(running, ARRAY(
        SELECT c FROM public.keys_call c WHERE c.xid >= since AND c.xid < until AND c.key_id = ANY (keys))) AS u));
END $$;

-- Begin a rotation's evidence with what the key's latest calls say of the old secret; what is not rolled up yet follows.
CREATE FUNCTION rotation_begin(rotation text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key text;
BEGIN
    SELECT key_id INTO STRICT key FROM public.keys_rotation WHERE id = rotation;
    PERFORM public.rotation_add_up(ARRAY(SELECT u FROM public.rotation_uses(ARRAY[rotation], ARRAY(
        SELECT c FROM public.keys_call c WHERE c.key_id = key AND c.at >= now() - interval '7 days'
            AND c.xid < (SELECT rolled_until FROM public.keys_usagemark)
        ORDER BY c.at DESC LIMIT 20000)) AS u));
END $$;

-- A grace has no targets, a staged rotation gets all of them in one statement.
CREATE FUNCTION keys_begin_rotation() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_NAME = 'keys_rotation' THEN
        PERFORM public.rotation_begin(id) FROM fresh WHERE mode = 'grace';
    ELSE
        PERFORM public.rotation_begin(rotation_id) FROM (SELECT DISTINCT rotation_id FROM fresh) f;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_begin_rotation AFTER INSERT ON keys_rotation REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION keys_begin_rotation();
CREATE TRIGGER keys_begin_rotation AFTER INSERT ON keys_rotationtarget REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION keys_begin_rotation();

-- When the mark last moved: what came since then is what a page still has to read itself. It stays while an old transaction
-- holds the mark back.
ALTER TABLE keys_usagemark ADD COLUMN rolled_at timestamptz NOT NULL DEFAULT '-infinity';

-- As before, and the evidence of rotations with it: each call is added to it once.
CREATE OR REPLACE FUNCTION usage_roll_up(most integer DEFAULT 100000) RETURNS bigint
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
        PERFORM public.rotation_fold(lowest, horizon);
    END IF;
    -- What lies behind the horizon may be older than now, where an old transaction held it back.
    UPDATE public.keys_usagemark SET rolled_until = greatest(rolled_until, horizon), rolled_at = least(now(),
            (SELECT min(at) FROM (SELECT at FROM public.keys_call WHERE xid >= horizon ORDER BY xid LIMIT 100) left_over))
        WHERE rolled_until < horizon;
    RETURN rolled;
END $$;

REVOKE ALL ON FUNCTION keys_rotation_fixed(), keys_target_fixed(), keys_hold_rotation(), keys_hold_rotations(), keys_begin_rotation(), keys_follow_acceptance(),
    rotation_uses(text[], keys_call[]), rotation_add_up(keys_rotationuse[]), rotation_fold(xid8, xid8), rotation_begin(text)
    FROM PUBLIC, keystead_app;
REVOKE ALL ON FUNCTION keys_is_given_back(text, integer, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keys_is_given_back(text, integer, timestamptz) TO keystead_app, keystead_verify;
REVOKE DELETE ON keys_rotationtarget FROM keystead_app;
REVOKE UPDATE ON keys_rotationtarget FROM keystead_app;
GRANT UPDATE (moved_at) ON keys_rotationtarget TO keystead_app;
GRANT UPDATE (completed_at, completed_by, cancelled_at, cancelled_by, overdue_at, held_at) ON keys_rotation TO keystead_app;
REVOKE INSERT, UPDATE, DELETE ON keys_rotationseen, keys_rotationuse FROM keystead_app;
