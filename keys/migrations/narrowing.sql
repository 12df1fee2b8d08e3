-- Whatever can narrow a verdict is told on the channel `keystead_narrowed` when it commits: one NOTIFY a transaction.
--
-- The payload: items joined by commas, each `key_… org_…` (a key and whose it is), `org_…` (all of its keys) or `*`
-- (everything). Statements gather in keys_narrowing, of which no row outlives its transaction; the first one's row
-- fires the deferred trigger that tells all of them. A row and not a setting of the transaction: no login may touch it.
-- Every trigger is ENABLE ALWAYS, so that it fires for a superuser who set the others aside, too.

CREATE UNLOGGED TABLE keys_narrowing (
    xid xid8 PRIMARY KEY,
    narrowed_keys text[] NOT NULL,
    narrowed_organizations text[] NOT NULL
);
REVOKE ALL ON keys_narrowing FROM keystead_app;

-- Keeps what is gathered small: of more than 100 keys their organizations, of more than 200 of those everything.
CREATE FUNCTION keys_narrow(more_keys text[], more_organizations text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    told text[];
    whose text[];
BEGIN
    IF cardinality(more_keys) + cardinality(more_organizations) = 0 THEN
        RETURN;
    END IF;
    SELECT narrowed_keys, narrowed_organizations INTO told, whose
        FROM public.keys_narrowing WHERE xid = pg_current_xact_id();
    IF told @> more_keys AND whose @> more_organizations OR whose = '{*}' THEN
        RETURN;
    END IF;
    told := ARRAY(SELECT DISTINCT unnest(told || more_keys));
    whose := ARRAY(SELECT DISTINCT unnest(whose || more_organizations));
    IF cardinality(told) > 100 THEN
        whose := ARRAY(SELECT unnest(whose) UNION SELECT split_part(unnest(told), ' ', 2));
    END IF;
    IF '*' = ANY (whose) OR cardinality(whose) > 200 THEN
        whose := '{*}';
        told := '{}';
    END IF;
    told := ARRAY(SELECT one FROM unnest(told) AS one WHERE split_part(one, ' ', 2) <> ALL (whose));
    INSERT INTO public.keys_narrowing VALUES (pg_current_xact_id(), told, whose)
        ON CONFLICT (xid) DO UPDATE SET narrowed_keys = told, narrowed_organizations = whose;
END $$;

CREATE FUNCTION keys_tell_narrowed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    told text[];
    whose text[];
    payload text := '*';
BEGIN
    DELETE FROM public.keys_narrowing WHERE xid = NEW.xid
        RETURNING narrowed_keys, narrowed_organizations INTO told, whose;
    IF FOUND THEN
        payload := array_to_string(told || whose, ',');
        -- PostgreSQL takes less than 8,000 bytes. An id that is not like ours must not be read as something else.
        IF octet_length(payload) > 7900 OR payload !~ '^[A-Za-z0-9_]+( [A-Za-z0-9_]+)?(,[A-Za-z0-9_]+( [A-Za-z0-9_]+)?)*$' THEN
            payload := '*';
        END IF;
    END IF;
    PERFORM pg_notify('keystead_narrowed', payload);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER keys_tell_narrowed AFTER INSERT ON keys_narrowing
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION keys_tell_narrowed();
ALTER TABLE keys_narrowing ENABLE ALWAYS TRIGGER keys_tell_narrowed;

-- Widening counts too: what was kept is out of date all the same, and a comparison that is wrong one day would be a hole.
CREATE FUNCTION keys_narrowed_keys() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow(
        coalesce((array_agg(o.id || ' ' || o.organization_id))[:101], '{}'),
        CASE WHEN count(*) > 100 THEN array_agg(DISTINCT o.organization_id) ELSE '{}' END)
        FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
        WHERE n.id IS NULL
           OR (n.organization_id, n.project_id, n.environment_id, n.kind, n.owner_type, n.owner_user_id, n.scopes,
               n.allowed_ips, n.rate_limit_requests, n.rate_limit_window_seconds, n.tier_id, n.newest_version,
               n.expires_at, n.is_disabled, n.disabled_until, n.revoked_at)
            IS DISTINCT FROM
              (o.organization_id, o.project_id, o.environment_id, o.kind, o.owner_type, o.owner_user_id, o.scopes,
               o.allowed_ips, o.rate_limit_requests, o.rate_limit_window_seconds, o.tier_id, o.newest_version,
               o.expires_at, o.is_disabled, o.disabled_until, o.revoked_at);
    RETURN NULL;
END $$;

-- Verification moves a used secret to a newer pepper, which changes its digest and nothing else: thousands an hour.
CREATE FUNCTION keys_narrowed_secrets() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow(
        coalesce((array_agg(DISTINCT o.key_id || ' ' || o.organization_id))[:101], '{}'),
        CASE WHEN count(DISTINCT o.key_id) > 100 THEN array_agg(DISTINCT o.organization_id) ELSE '{}' END)
        FROM old_rows o LEFT JOIN new_rows n ON n.key_id = o.key_id AND n.version = o.version
        WHERE n.key_id IS NULL
           OR (n.organization_id, n.expires_at, n.accepted_until)
              IS DISTINCT FROM (o.organization_id, o.expires_at, o.accepted_until)
           OR (n.digest <> o.digest AND (n.pepper_version <= o.pepper_version OR session_user <> 'keystead_verify'));
    RETURN NULL;
END $$;

CREATE FUNCTION keys_narrowed_organizations() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', ARRAY(
        SELECT o.id FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
        WHERE n.id IS NULL OR (n.is_operator, n.plan_id, n.overrides, n.suspended_at)
            IS DISTINCT FROM (o.is_operator, o.plan_id, o.overrides, o.suspended_at)));
    RETURN NULL;
END $$;

CREATE FUNCTION keys_narrowed_memberships() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', ARRAY(
        SELECT DISTINCT o.organization_id FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
        WHERE n.id IS NULL OR (n.organization_id, n.user_id, n.project_id, n.role)
            IS DISTINCT FROM (o.organization_id, o.user_id, o.project_id, o.role)));
    RETURN NULL;
END $$;

CREATE FUNCTION keys_narrowed_projects() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', ARRAY(
        SELECT DISTINCT o.organization_id FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
        WHERE n.id IS NULL OR (n.organization_id, n.parent_id, n.path, n.scopes)
            IS DISTINCT FROM (o.organization_id, o.parent_id, o.path, o.scopes)));
    RETURN NULL;
END $$;

CREATE FUNCTION keys_narrowed_environments() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', ARRAY(
        SELECT DISTINCT o.organization_id FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
        WHERE n.id IS NULL OR (n.organization_id, n.slug, n.mode)
            IS DISTINCT FROM (o.organization_id, o.slug, o.mode)));
    RETURN NULL;
END $$;

CREATE FUNCTION keys_narrowed_people() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', ARRAY(
        SELECT DISTINCT m.organization_id
        FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id JOIN public.orgs_membership m ON m.user_id = o.id
        WHERE n.id IS NULL OR n.is_active IS DISTINCT FROM o.is_active));
    RETURN NULL;
END $$;

-- Of plans, tiers and the catalogue: rare, and whom it concerns is more work to find out than to ask again.
CREATE FUNCTION keys_narrowed_plans() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', '{*}') WHERE EXISTS (
        SELECT FROM old_rows o LEFT JOIN new_rows n ON n.slug = o.slug
        WHERE n.slug IS NULL
           OR (n.rate_limit_requests, n.rate_limit_window_seconds, n.monthly_quota, n.entitlements)
            IS DISTINCT FROM (o.rate_limit_requests, o.rate_limit_window_seconds, o.monthly_quota, o.entitlements));
    RETURN NULL;
END $$;

CREATE FUNCTION keys_narrowed_tiers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', '{*}') WHERE EXISTS (
        SELECT FROM old_rows o LEFT JOIN new_rows n ON n.slug = o.slug
        WHERE n.slug IS NULL OR (n.requests, n.window_seconds, n.monthly_quota)
            IS DISTINCT FROM (o.requests, o.window_seconds, o.monthly_quota));
    RETURN NULL;
END $$;

CREATE FUNCTION keys_narrowed_scopes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', '{*}') WHERE EXISTS (
        SELECT FROM old_rows o LEFT JOIN new_rows n ON n.name = o.name
        WHERE n.name IS NULL OR n.risk IS DISTINCT FROM o.risk);
    RETURN NULL;
END $$;

-- Rows gone that nothing deletes, or a scope that is new: a wildcard over it now stands for more than its owner may.
CREATE FUNCTION keys_narrowed_everything() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', '{*}') WHERE EXISTS (SELECT FROM touched);
    RETURN NULL;
END $$;

CREATE FUNCTION keys_narrowed_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', '{*}');
    RETURN NULL;
END $$;

-- Memberships alone are deleted in the ordinary course; there the rows that are gone say whose they were.
CREATE FUNCTION keys_narrowed_leavers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.keys_narrow('{}', ARRAY(SELECT DISTINCT organization_id FROM touched));
    RETURN NULL;
END $$;

DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT * FROM (VALUES
        ('keys_apikey', 'keys_narrowed_keys', 'keys_narrowed_everything'),
        ('keys_keysecret', 'keys_narrowed_secrets', 'keys_narrowed_everything'),
        ('keys_scope', 'keys_narrowed_scopes', 'keys_narrowed_everything'),
        ('keys_tier', 'keys_narrowed_tiers', 'keys_narrowed_everything'),
        ('orgs_organization', 'keys_narrowed_organizations', 'keys_narrowed_everything'),
        ('orgs_membership', 'keys_narrowed_memberships', 'keys_narrowed_leavers'),
        ('orgs_project', 'keys_narrowed_projects', 'keys_narrowed_everything'),
        ('orgs_environment', 'keys_narrowed_environments', 'keys_narrowed_everything'),
        ('orgs_plan', 'keys_narrowed_plans', 'keys_narrowed_everything'),
        ('orgs_user', 'keys_narrowed_people', 'keys_narrowed_everything')
    ) AS watched (watched, on_update, on_delete) LOOP
        EXECUTE format('CREATE TRIGGER keys_narrowed_update AFTER UPDATE ON %I REFERENCING OLD TABLE AS old_rows'
            ' NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION %I()', one.watched, one.on_update);
        EXECUTE format('CREATE TRIGGER keys_narrowed_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS touched'
            ' FOR EACH STATEMENT EXECUTE FUNCTION %I()', one.watched, one.on_delete);
        EXECUTE format('CREATE TRIGGER keys_narrowed_truncate AFTER TRUNCATE ON %I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION keys_narrowed_truncated()', one.watched);
        EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER keys_narrowed_update,'
            ' ENABLE ALWAYS TRIGGER keys_narrowed_delete, ENABLE ALWAYS TRIGGER keys_narrowed_truncate', one.watched);
    END LOOP;
END $$;
CREATE TRIGGER keys_narrowed_insert AFTER INSERT ON keys_scope REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION keys_narrowed_everything();
ALTER TABLE keys_scope ENABLE ALWAYS TRIGGER keys_narrowed_insert;

REVOKE ALL ON FUNCTION keys_narrow(text[], text[]), keys_tell_narrowed(), keys_narrowed_keys(), keys_narrowed_secrets(),
    keys_narrowed_organizations(), keys_narrowed_memberships(), keys_narrowed_projects(), keys_narrowed_environments(),
    keys_narrowed_people(), keys_narrowed_plans(), keys_narrowed_tiers(), keys_narrowed_scopes(),
    keys_narrowed_everything(), keys_narrowed_truncated(), keys_narrowed_leavers() FROM PUBLIC;
