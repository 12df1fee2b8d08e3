-- What SQL alone can state about approvals and executions.

ALTER TABLE keys_approval ADD CONSTRAINT approval_of_same FOREIGN KEY (key_id, organization_id)
    REFERENCES keys_apikey (id, organization_id);
ALTER TABLE keys_approval ADD CONSTRAINT approval_of_key UNIQUE (id, key_id);
-- Whoever stood behind the key that asked decides on nothing of it.
ALTER TABLE keys_approval ADD CONSTRAINT approval_not_of_behind CHECK (decided_by <> ALL (behind));
ALTER TABLE keys_execution ADD CONSTRAINT execution_of_same FOREIGN KEY (key_id, organization_id)
    REFERENCES keys_apikey (id, organization_id);
ALTER TABLE keys_execution ADD CONSTRAINT execution_approval_of_same FOREIGN KEY (approval_id, key_id)
    REFERENCES keys_approval (id, key_id);

-- A key that is bound to approvals stays so: who wants another makes another.
CREATE FUNCTION keys_key_stays_bound() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.approval_bound AND NOT NEW.approval_bound THEN
        RAISE EXCEPTION 'a key stays bound to approvals' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_key_stays_bound BEFORE UPDATE OF approval_bound ON keys_apikey
    FOR EACH ROW EXECUTE FUNCTION keys_key_stays_bound();

-- What was asked for never changes; one decision, in time; what the ledger was told of it is told once. What people
-- wrote can be erased with them, at any time.
CREATE FUNCTION keys_approval_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed CONSTANT text[] := '{decision,decided_at,decided_by,note,expired_told_at}'::text[]
        || CASE WHEN NEW.reason = '(erased)' THEN '{reason}'::text[] ELSE '{}' END;
    note CONSTANT text := CASE WHEN OLD.note <> '' AND NEW.note = '(erased)' THEN OLD.note ELSE NEW.note END;
BEGIN
    IF to_jsonb(NEW) - changed IS DISTINCT FROM to_jsonb(OLD) - changed THEN
        RAISE EXCEPTION 'an approval keeps what was asked for' USING ERRCODE = 'check_violation';
    END IF;
    IF (NEW.decision, NEW.decided_at, NEW.decided_by, note) IS DISTINCT FROM (OLD.decision, OLD.decided_at, OLD.decided_by, OLD.note)
        AND (OLD.decision <> '' OR NEW.decision = '' OR clock_timestamp() >= OLD.valid_until) THEN
        RAISE EXCEPTION 'an approval is decided once, while it is valid' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.expired_told_at IS NOT NULL AND NEW.expired_told_at IS DISTINCT FROM OLD.expired_told_at THEN
        RAISE EXCEPTION 'an approval expires once' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_approval_fixed BEFORE UPDATE ON keys_approval FOR EACH ROW EXECUTE FUNCTION keys_approval_fixed();

-- Runs as the owner: the application may read the counter of uses, never write it. A request begins undecided.
CREATE FUNCTION keys_follow_approval() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.decision <> '' OR NEW.expired_told_at IS NOT NULL THEN
        RAISE EXCEPTION 'an approval is asked for before it is decided' USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO public.keys_approvalspend (approval_id, organization_id, uses) VALUES (NEW.id, NEW.organization_id, NEW.uses);
    RETURN NULL;
END $$;
CREATE TRIGGER keys_follow_approval AFTER INSERT ON keys_approval FOR EACH ROW EXECUTE FUNCTION keys_follow_approval();

-- The people behind a key that presents one version of its secret (null: any): who made the key, who made that secret,
-- who owns the key, who registered or confirmed the recipient that the secret was sealed to and so can open it; where a key did so, the
-- people behind that one, in whatever organization it is. None of them decides on what the key asks for. A key that rotated
-- itself hands on who made the secret before.
CREATE FUNCTION keys_people_behind(of_key text, of_version integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE behind (key_id, version) AS (
        SELECT of_key, of_version
        UNION
        SELECT more.key_id, more.version FROM behind b CROSS JOIN LATERAL (
            SELECT k.created_by::text, NULL::integer FROM public.keys_apikey k WHERE k.id = b.key_id
            UNION ALL
            SELECT r.started_by::text, CASE WHEN r.started_by = r.key_id THEN r.old_version END FROM public.keys_rotation r
            WHERE r.key_id = b.key_id AND (b.version IS NULL OR r.new_version = b.version)
        ) AS more (key_id, version) WHERE more.key_id LIKE 'key\_%'
    )
    SELECT k.created_by::text FROM behind b JOIN public.keys_apikey k ON k.id = b.key_id WHERE k.created_by LIKE 'usr\_%'
    UNION
    SELECT k.owner_user_id::text FROM behind b JOIN public.keys_apikey k ON k.id = b.key_id WHERE k.owner_user_id IS NOT NULL
    UNION
    SELECT r.started_by::text FROM behind b JOIN public.keys_rotation r ON r.key_id = b.key_id
    WHERE (b.version IS NULL OR r.new_version = b.version) AND r.started_by LIKE 'usr\_%'
    UNION
    SELECT v::text FROM behind b JOIN public.keys_rotation r ON r.key_id = b.key_id JOIN public.keys_recipient p ON p.id = r.sealed_to
    CROSS JOIN unnest(p.vouched_by) AS v WHERE (b.version IS NULL OR r.new_version = b.version) AND v LIKE 'usr\_%'
$$;

-- As `narrowing.sql` has it, and one column more. That an approval was granted, denied, used or has expired is told to
-- nobody: what a bound key may do with one is never kept by a client (an answer with `approval` says so), so that there
-- is nothing to take back; and what it may do without one changes with none of them.
CREATE OR REPLACE FUNCTION keys_narrowed_keys() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow(
        coalesce((array_agg(o.id || ' ' || o.organization_id))[:101], '{}'),
        CASE WHEN count(*) > 100 THEN array_agg(DISTINCT o.organization_id) ELSE '{}' END)
        FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
        WHERE n.id IS NULL
           OR (n.organization_id, n.project_id, n.environment_id, n.kind, n.owner_type, n.owner_user_id, n.scopes,
               n.allowed_ips, n.rate_limit_requests, n.rate_limit_window_seconds, n.tier_id, n.newest_version,
               n.expires_at, n.is_disabled, n.disabled_until, n.revoked_at, n.approval_bound)
            IS DISTINCT FROM
              (o.organization_id, o.project_id, o.environment_id, o.kind, o.owner_type, o.owner_user_id, o.scopes,
               o.allowed_ips, o.rate_limit_requests, o.rate_limit_window_seconds, o.tier_id, o.newest_version,
               o.expires_at, o.is_disabled, o.disabled_until, o.revoked_at, o.approval_bound);
    RETURN NULL;
END $$;

-- To find the calls of an incident or of a request; calls without one cost nothing. A column of its own, because under
-- row-level security the planner uses no index on an expression of the trace (its operator is not leakproof).
ALTER TABLE keys_call ADD COLUMN incident varchar(128) NOT NULL DEFAULT '' COLLATE "C";
CREATE INDEX keys_call_by_incident ON keys_call (organization_id, incident, at) WHERE incident <> '';
CREATE INDEX keys_call_by_request ON keys_call (organization_id, request_id, at) WHERE request_id <> '';

REVOKE ALL ON FUNCTION keys_key_stays_bound(), keys_approval_fixed(), keys_follow_approval(), keys_people_behind(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keys_people_behind(text, integer) TO keystead_app;
REVOKE UPDATE, DELETE ON keys_approval, keys_execution, keys_approvaluse FROM keystead_app;
REVOKE INSERT, UPDATE, DELETE ON keys_approvalspend FROM keystead_app;
REVOKE INSERT ON keys_approvaluse FROM keystead_app;
GRANT UPDATE (reason, decision, decided_at, decided_by, note, expired_told_at) ON keys_approval TO keystead_app;
GRANT UPDATE (told_at) ON keys_approvaluse TO keystead_app;

GRANT SELECT (id, key_id, scope, resource, parameters_digest, decision, valid_until, uses) ON keys_approval TO keystead_verify;
GRANT SELECT, UPDATE (spent) ON keys_approvalspend TO keystead_verify;
GRANT INSERT ON keys_approvaluse TO keystead_verify;
CREATE POLICY verify ON keys_approval FOR SELECT TO keystead_verify USING (true);
CREATE POLICY verify ON keys_approvalspend TO keystead_verify USING (true) WITH CHECK (true);
CREATE POLICY verify ON keys_approvaluse FOR INSERT TO keystead_verify WITH CHECK (true);
