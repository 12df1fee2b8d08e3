-- No row of one organization hangs on another's, whatever row-level security is told.
ALTER TABLE audit_endpoint ADD CONSTRAINT endpoint_of_one_organization UNIQUE (id, organization_id);
ALTER TABLE audit_endpointsecret ADD CONSTRAINT secret_of_same_organization
    FOREIGN KEY (endpoint_id, organization_id) REFERENCES audit_endpoint (id, organization_id) ON DELETE CASCADE;
ALTER TABLE audit_delivery ADD CONSTRAINT delivery_of_same_organization
    FOREIGN KEY (endpoint_id, organization_id) REFERENCES audit_endpoint (id, organization_id) ON DELETE CASCADE,
    ADD CONSTRAINT delivery_of_one_organization UNIQUE (id, organization_id);
ALTER TABLE audit_attempt ADD CONSTRAINT attempt_of_same_organization
    FOREIGN KEY (delivery_id, organization_id) REFERENCES audit_delivery (id, organization_id) ON DELETE CASCADE;
