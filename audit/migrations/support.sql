-- The times are the database's, whatever a caller says; what is closed stays closed, and keeps no free text.

CREATE FUNCTION audit_support_times() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF char_length(NEW.reason) < 10 THEN
            RAISE EXCEPTION 'a reason is needed' USING ERRCODE = 'check_violation';
        END IF;
        NEW.opened_at := clock_timestamp();
        NEW.expires_at := NEW.opened_at + make_interval(mins => NEW.minutes);
        NEW.ended_at := NULL;
        NEW.ended_why := '';
        RETURN NEW;
    END IF;
    IF OLD.ended_at IS NOT NULL OR NEW.ended_why = ''
        OR (NEW.id, NEW.organization_id, NEW.kind, NEW.user_id, NEW.minutes, NEW.opened_at, NEW.expires_at)
            IS DISTINCT FROM (OLD.id, OLD.organization_id, OLD.kind, OLD.user_id, OLD.minutes, OLD.opened_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'a support session is only closed, and once' USING ERRCODE = 'check_violation';
    END IF;
    NEW.ended_at := least(clock_timestamp(), OLD.expires_at);
    NEW.reason := '';
    RETURN NEW;
END $$;

CREATE TRIGGER support_times BEFORE INSERT OR UPDATE ON audit_supportsession
    FOR EACH ROW EXECUTE FUNCTION audit_support_times();
REVOKE ALL ON FUNCTION audit_support_times() FROM PUBLIC;
REVOKE DELETE ON audit_supportsession FROM keystead_app;
