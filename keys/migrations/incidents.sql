-- What SQL alone can state about incidents: they and their keys are one organization's, written once and never changed.
-- What somebody wrote as the reason, or typed to narrow it, can be erased with them.

ALTER TABLE keys_incident ADD CONSTRAINT incident_of_organization UNIQUE (id, organization_id);
ALTER TABLE keys_incidentkey ADD CONSTRAINT incident_of_same FOREIGN KEY (incident_id, organization_id)
    REFERENCES keys_incident (id, organization_id);
ALTER TABLE keys_incidentkey ADD CONSTRAINT incident_key_of_same FOREIGN KEY (key_id, organization_id)
    REFERENCES keys_apikey (id, organization_id);
CREATE FUNCTION keys_incident_fixed() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    erased jsonb := CASE WHEN NEW.reason = '(erased)' THEN '{"reason": ""}' ELSE '{}' END;
BEGIN
    IF OLD.filter ? 'q' AND NEW.filter ->> 'q' = '(erased)' THEN
        erased := erased || jsonb_build_object('filter', OLD.filter || '{"q": "(erased)"}');
    END IF;
    IF to_jsonb(NEW) || erased IS DISTINCT FROM to_jsonb(OLD) || erased
        OR (erased ? 'filter' AND NEW.filter IS DISTINCT FROM erased -> 'filter') THEN
        RAISE EXCEPTION 'an incident stays as it was written' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keys_incident_fixed BEFORE UPDATE ON keys_incident FOR EACH ROW EXECUTE FUNCTION keys_incident_fixed();

REVOKE ALL ON FUNCTION keys_incident_fixed() FROM PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE ON keys_incident, keys_incidentkey FROM keystead_app;
GRANT UPDATE (reason, filter) ON keys_incident TO keystead_app;
