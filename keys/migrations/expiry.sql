-- When keys are looked at, what was said of them by itself, and what is sealed to a recipient.

CREATE TABLE keys_due (
    key_id varchar(32) NOT NULL REFERENCES keys_apikey (id),
    what varchar(8) NOT NULL CHECK (what IN ('expiry', 'rotation')),
    organization_id varchar(32) NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (key_id, what)
);
CREATE INDEX keys_due_by_time ON keys_due (what, due_at);
CREATE INDEX keys_due_of_organization ON keys_due (organization_id, what);

CREATE TABLE keys_notice (
    key_id varchar(32) NOT NULL REFERENCES keys_apikey (id),
    version integer NOT NULL,
    act varchar(24) NOT NULL,
    days smallint NOT NULL CHECK (days BETWEEN 0 AND 365),
    about timestamptz NOT NULL,
    organization_id varchar(32) NOT NULL,
    at timestamptz NOT NULL,
    is_told boolean NOT NULL,
    PRIMARY KEY (key_id, version, act, days, about)
);

-- Runs as the owner: whoever changes a key, the worker looks at it again. A revocation needs no look: the next one
-- finds it, and 10,000 revoked at once wait for nothing here.
CREATE FUNCTION keys_look_again() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (NEW.expires_at, NEW.newest_version, NEW.auto_rotate, NEW.rotation_interval_days, NEW.is_disabled, NEW.disabled_until)
            IS NOT DISTINCT FROM
           (OLD.expires_at, OLD.newest_version, OLD.auto_rotate, OLD.rotation_interval_days, OLD.is_disabled, OLD.disabled_until) THEN
            RETURN NULL;
        END IF;
    END IF;
    IF NEW.expires_at IS NOT NULL THEN
        INSERT INTO public.keys_due VALUES (NEW.id, 'expiry', NEW.organization_id, now())
            ON CONFLICT (key_id, what) DO UPDATE SET due_at = least(keys_due.due_at, excluded.due_at);
    END IF;
    IF NEW.auto_rotate THEN
        INSERT INTO public.keys_due VALUES (NEW.id, 'rotation', NEW.organization_id, now())
            ON CONFLICT (key_id, what) DO UPDATE SET due_at = least(keys_due.due_at, excluded.due_at);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_look_again
    AFTER INSERT OR UPDATE OF expires_at, newest_version, auto_rotate, rotation_interval_days, is_disabled, disabled_until
    ON keys_apikey FOR EACH ROW EXECUTE FUNCTION keys_look_again();

-- Keys that ended before there were notices stay without one.
INSERT INTO keys_due SELECT id, 'expiry', organization_id, now() FROM keys_apikey
    WHERE revoked_at IS NULL AND expires_at > now();

-- A sealed secret goes with whatever ends its rotation, and is never put back or sealed to another.
CREATE FUNCTION keys_sealed_goes() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.sealed_to <> OLD.sealed_to OR NEW.sealed_secret IS NOT NULL AND NEW.sealed_secret IS DISTINCT FROM OLD.sealed_secret THEN
        RAISE EXCEPTION 'a sealed secret only goes' USING ERRCODE = 'check_violation';
    END IF;
    IF coalesce(NEW.completed_at, NEW.cancelled_at, NEW.superseded_at) IS NOT NULL THEN
        NEW.sealed_secret := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_sealed_goes BEFORE UPDATE ON keys_rotation FOR EACH ROW EXECUTE FUNCTION keys_sealed_goes();
ALTER TABLE keys_rotation ADD CONSTRAINT rotation_sealed_to CHECK (sealed_secret IS NULL OR sealed_to <> '');
CREATE INDEX rotation_sealed ON keys_rotation (id) WHERE sealed_secret IS NOT NULL;

ALTER TABLE keys_recipient ADD CONSTRAINT recipient_length CHECK (octet_length(public_key) = 32);
ALTER TABLE keys_recipient ADD CONSTRAINT recipient_removal_whole CHECK ((removed_at IS NULL) = (removed_by = ''));
ALTER TABLE keys_recipient ADD CONSTRAINT recipient_vouched CHECK (coalesce(vouched_by[1], '') = created_by);

-- A recipient stays what it was; who vouches for it is added to, and it can be removed, once.
CREATE FUNCTION keys_recipient_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.removed_at IS NOT NULL OR (NEW.id, NEW.organization_id, NEW.name, NEW.public_key, NEW.created_at, NEW.created_by)
        IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.name, OLD.public_key, OLD.created_at, OLD.created_by)
        OR NEW.vouched_by[:cardinality(OLD.vouched_by)] <> OLD.vouched_by THEN
        RAISE EXCEPTION 'a recipient stays what it was' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_recipient_fixed BEFORE UPDATE ON keys_recipient FOR EACH ROW EXECUTE FUNCTION keys_recipient_fixed();

REVOKE ALL ON FUNCTION keys_look_again(), keys_sealed_goes(), keys_recipient_fixed() FROM PUBLIC;
REVOKE DELETE ON keys_recipient, keys_notice FROM keystead_app;
REVOKE UPDATE ON keys_recipient, keys_notice, keys_due FROM keystead_app;
GRANT UPDATE (removed_at, removed_by, vouched_by) ON keys_recipient TO keystead_app;
GRANT UPDATE (due_at) ON keys_due TO keystead_app;
GRANT UPDATE (sealed_secret) ON keys_rotation TO keystead_app;
