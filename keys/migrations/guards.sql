-- What SQL alone can state about keys.

ALTER TABLE keys_apikey ADD CONSTRAINT key_of_organization UNIQUE (id, organization_id);
ALTER TABLE keys_apikey ADD CONSTRAINT key_project_of_same FOREIGN KEY (project_id, organization_id)
    REFERENCES orgs_project (id, organization_id);
ALTER TABLE keys_apikey ADD CONSTRAINT key_environment_of_same FOREIGN KEY (environment_id, organization_id)
    REFERENCES orgs_environment (id, organization_id);
ALTER TABLE keys_keysecret ADD CONSTRAINT secret_of_same FOREIGN KEY (key_id, organization_id)
    REFERENCES keys_apikey (id, organization_id);
ALTER TABLE keys_rotation ADD CONSTRAINT rotation_of_same FOREIGN KEY (key_id, organization_id)
    REFERENCES keys_apikey (id, organization_id);
ALTER TABLE keys_keysecret ADD CONSTRAINT secret_digest_length CHECK (octet_length(digest) = 32);

-- A key never changes its place, kind or creation; its version only grows by one; a revocation is final.
CREATE FUNCTION keys_key_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.organization_id, NEW.project_id, NEW.environment_id, NEW.kind, NEW.created_at, NEW.created_by)
        IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.project_id, OLD.environment_id, OLD.kind, OLD.created_at, OLD.created_by) THEN
        RAISE EXCEPTION 'a key keeps its place, kind and creation' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.newest_version NOT IN (OLD.newest_version, OLD.newest_version + 1) THEN
        RAISE EXCEPTION 'a key''s version grows by one' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.revoked_at IS NOT NULL AND to_jsonb(NEW) IS DISTINCT FROM to_jsonb(OLD) THEN
        RAISE EXCEPTION 'a revoked key stays as it is' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_key_fixed BEFORE UPDATE ON keys_apikey FOR EACH ROW EXECUTE FUNCTION keys_key_fixed();

-- A secret's version is never taken back once it is refused, and never outlives its own expiry.
CREATE FUNCTION keys_secret_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.key_id, NEW.organization_id, NEW.version, NEW.hint, NEW.created_at)
        IS DISTINCT FROM (OLD.key_id, OLD.organization_id, OLD.version, OLD.hint, OLD.created_at)
        OR NEW.accepted_until > OLD.accepted_until OR (OLD.accepted_until IS NOT NULL AND NEW.accepted_until IS NULL)
        OR NEW.accepted_until > NEW.expires_at OR NEW.pepper_version < OLD.pepper_version THEN
        RAISE EXCEPTION 'a secret''s acceptance only ends sooner' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_secret_fixed BEFORE UPDATE ON keys_keysecret FOR EACH ROW EXECUTE FUNCTION keys_secret_fixed();

-- Scopes and tags as rows, for filters by equality (GIN operators are not leakproof, so row security rules them out).
CREATE TABLE keys_term (
    organization_id varchar(32) NOT NULL,
    term varchar(110) NOT NULL COLLATE "C",
    key_id varchar(32) NOT NULL,
    PRIMARY KEY (organization_id, term, key_id)
);
CREATE INDEX keys_term_of_key ON keys_term (key_id, term);

CREATE FUNCTION keys_terms_of(key public.keys_apikey) RETURNS SETOF text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'scope:' || scope FROM unnest(key.scopes) AS scope
    UNION SELECT 'tag:' || t.key || '=' || t.value FROM jsonb_each_text(key.tags) AS t
$$;

-- Runs as the owner: the application may read terms and evidence of use, never write them.
CREATE FUNCTION keys_follow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO public.keys_keyuse (key_id, organization_id) VALUES (NEW.id, NEW.organization_id);
    ELSIF (NEW.scopes, NEW.tags) IS NOT DISTINCT FROM (OLD.scopes, OLD.tags) THEN
        RETURN NULL;
    ELSE
        DELETE FROM public.keys_term WHERE key_id = NEW.id;
    END IF;
    INSERT INTO public.keys_term SELECT NEW.organization_id, term, NEW.id FROM public.keys_terms_of(NEW) AS term;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_follow AFTER INSERT OR UPDATE OF scopes, tags ON keys_apikey FOR EACH ROW EXECUTE FUNCTION keys_follow();

CREATE FUNCTION keys_follow_secret() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO public.keys_secretuse (key_id, version, organization_id) VALUES (NEW.key_id, NEW.version, NEW.organization_id);
    RETURN NULL;
END $$;
CREATE TRIGGER keys_follow_secret AFTER INSERT ON keys_keysecret FOR EACH ROW EXECUTE FUNCTION keys_follow_secret();

REVOKE ALL ON FUNCTION keys_key_fixed(), keys_secret_fixed(), keys_terms_of(keys_apikey), keys_follow(), keys_follow_secret() FROM PUBLIC;
REVOKE DELETE ON keys_apikey, keys_keysecret, keys_rotation, keys_scope, keys_tier FROM keystead_app;
REVOKE INSERT, UPDATE, DELETE ON keys_term, keys_keyuse, keys_secretuse FROM keystead_app;
REVOKE UPDATE ON keys_keysecret, keys_rotation FROM keystead_app;
GRANT UPDATE (accepted_until, expires_at) ON keys_keysecret TO keystead_app;
GRANT UPDATE (superseded_at) ON keys_rotation TO keystead_app;

GRANT SELECT ON keys_scope TO keystead_verify;
GRANT UPDATE (digest, pepper_version) ON keys_keysecret TO keystead_verify;
GRANT UPDATE (last_used_at, last_used_ip) ON keys_keyuse TO keystead_verify;
GRANT UPDATE (last_used_at) ON keys_secretuse TO keystead_verify;
CREATE POLICY verify_writes ON keys_keysecret FOR UPDATE TO keystead_verify USING (true) WITH CHECK (true);
CREATE POLICY verify_writes ON keys_keyuse FOR UPDATE TO keystead_verify USING (true) WITH CHECK (true);
CREATE POLICY verify_writes ON keys_secretuse FOR UPDATE TO keystead_verify USING (true) WITH CHECK (true);
