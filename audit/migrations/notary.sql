-- What the notary publishes: signed checkpoints, the tree's upper nodes for quick proofs, its heartbeat and alarms.

-- One row for a size of a log: the database too refuses a second root.
CREATE TABLE audit_checkpoint (
    organization_id text NOT NULL CHECK (organization_id <> ''),
    epoch smallint NOT NULL CHECK (epoch > 0),
    size bigint NOT NULL CHECK (size > 0),
    root bytea NOT NULL CHECK (octet_length(root) = 32),
    note text NOT NULL CHECK (octet_length(note) <= 4096),
    signed_at timestamptz NOT NULL,
    -- Moves with each time that the same size is signed or published again.
    published_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, epoch, size)
);

-- The hash of each complete subtree of 2^level leaves. Never authority: a wrong one only makes proofs that fail.
CREATE TABLE audit_node (
    organization_id text NOT NULL,
    epoch smallint NOT NULL,
    level smallint NOT NULL CHECK (level BETWEEN 8 AND 62),
    index bigint NOT NULL CHECK (index >= 0),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (organization_id, epoch, level, index)
);

-- One row: the notary that runs, or ran last. `alarms`: [{organization, epoch, index, kind, what, since}].
CREATE TABLE audit_notary (
    id smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    instance text NOT NULL,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL,
    -- When everything was recomputed last: the end of the newest whole sweep.
    swept_at timestamptz,
    alarms jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(alarms) = 'array')
);

CREATE FUNCTION audit_checkpoint_stays() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.organization_id, NEW.epoch, NEW.size, NEW.root, NEW.signed_at)
        IS DISTINCT FROM (OLD.organization_id, OLD.epoch, OLD.size, OLD.root, OLD.signed_at) THEN
        RAISE EXCEPTION 'a checkpoint stays as it was signed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_checkpoint_keep BEFORE DELETE ON audit_checkpoint FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_checkpoint_keep_all BEFORE TRUNCATE ON audit_checkpoint EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_checkpoint_stays BEFORE UPDATE ON audit_checkpoint FOR EACH ROW EXECUTE FUNCTION audit_checkpoint_stays();
ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_keep;
ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_keep_all;
ALTER TABLE audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_stays;

ALTER TABLE audit_checkpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_node ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_notary ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_checkpoint FOR SELECT TO keystead_app USING (organization_id = current_setting('app.organization', true));
CREATE POLICY everywhere ON audit_checkpoint FOR SELECT TO keystead_app USING (current_setting('app.organization', true) = '*');
CREATE POLICY tenant ON audit_node FOR SELECT TO keystead_app USING (organization_id = current_setting('app.organization', true));
CREATE POLICY everywhere ON audit_node FOR SELECT TO keystead_app USING (current_setting('app.organization', true) = '*');
-- Its alarms name organizations: read through `audit_notary_of` within one.
CREATE POLICY everywhere ON audit_notary FOR SELECT TO keystead_app USING (current_setting('app.organization', true) = '*');
CREATE POLICY notary ON audit_checkpoint TO keystead_notary USING (true) WITH CHECK (true);
CREATE POLICY notary ON audit_node TO keystead_notary USING (true) WITH CHECK (true);
CREATE POLICY notary ON audit_notary TO keystead_notary USING (true) WITH CHECK (true);

-- What an organization may know of the notary: its pulse, and the alarms about its own ledger.
CREATE FUNCTION audit_notary_of(OUT beat_at timestamptz, OUT swept_at timestamptz, OUT alarms jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.beat_at, n.swept_at, coalesce((SELECT jsonb_agg(a) FROM jsonb_array_elements(n.alarms) a
        WHERE a ->> 'organization' = current_setting('app.organization', true)), '[]')
    FROM public.audit_notary n
$$;

REVOKE ALL ON audit_checkpoint, audit_node, audit_notary FROM PUBLIC, keystead_app;
REVOKE ALL ON FUNCTION audit_checkpoint_stays(), audit_notary_of() FROM PUBLIC, keystead_app;
GRANT SELECT ON audit_checkpoint, audit_node, audit_notary TO keystead_app;
GRANT EXECUTE ON FUNCTION audit_notary_of() TO keystead_app;
GRANT SELECT, INSERT ON audit_checkpoint, audit_node TO keystead_notary;
GRANT UPDATE (note, published_at) ON audit_checkpoint TO keystead_notary;
GRANT UPDATE (hash), DELETE ON audit_node TO keystead_notary;
GRANT SELECT, INSERT, UPDATE ON audit_notary TO keystead_notary;
