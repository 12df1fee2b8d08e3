-- What SQL alone can state about incidents: they and their keys are one organization's, written once and never changed.

ALTER TABLE keys_incident ADD CONSTRAINT incident_of_organization UNIQUE (id, organization_id);
ALTER TABLE keys_incidentkey ADD CONSTRAINT incident_of_same FOREIGN KEY (incident_id, organization_id)
    REFERENCES keys_incident (id, organization_id);
ALTER TABLE keys_incidentkey ADD CONSTRAINT incident_key_of_same FOREIGN KEY (key_id, organization_id)
    REFERENCES keys_apikey (id, organization_id);
REVOKE UPDATE, DELETE, TRUNCATE ON keys_incident, keys_incidentkey FROM keystead_app;
