-- No part of one organization hangs on another's export, whatever row-level security is told.
ALTER TABLE audit_export ADD CONSTRAINT export_of_one_organization UNIQUE (id, organization_id);
ALTER TABLE audit_exportpart ADD CONSTRAINT part_of_same_organization
    FOREIGN KEY (export_id, organization_id) REFERENCES audit_export (id, organization_id) ON DELETE CASCADE,
    ADD CONSTRAINT part_is_small CHECK (octet_length(piece) BETWEEN 1 AND 2097152);
-- A zip does not get smaller, and the rest is read once.
ALTER TABLE audit_exportpart ALTER COLUMN piece SET STORAGE EXTERNAL;

-- Personal data is being erased in this organization: no export that may hold it stays. An erasure calls this with the
-- ledger's head locked, in its own transaction. Who begins, restarts or finishes an export locks the head or one of
-- these rows: so what they read after that was erased already, and what they read before is never handed out.
CREATE FUNCTION audit_exports_forget(organization text) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    touched bigint;
BEGIN
    UPDATE public.audit_export e SET asked_name = '', claim = '', sha256 = '', size = 0, done = 0, entries = 0, ready_at = NULL,
        state = CASE WHEN e.state IN ('queued', 'running') THEN 'queued' ELSE 'failed' END,
        reason = CASE e.state WHEN 'ready' THEN 'Deleted, because personal data was erased from the log. Make it again.'
            WHEN 'failed' THEN e.reason ELSE '' END
        WHERE e.organization_id = organization;
    GET DIAGNOSTICS touched = ROW_COUNT;
    DELETE FROM public.audit_exportpart p WHERE p.organization_id = organization;
    RETURN touched;
END $$;

REVOKE ALL ON FUNCTION audit_exports_forget(text) FROM PUBLIC, keystead_app;
