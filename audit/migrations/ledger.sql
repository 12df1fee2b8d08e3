-- The ledger (spec LEDGER, "Writing" and "Holding it"). Owned by keystead_owner, which runs this.

CREATE TABLE audit_head (
    organization_id text PRIMARY KEY CHECK (organization_id <> ''),
    origin text NOT NULL UNIQUE CHECK (origin ~ '^[a-z0-9._/-]{1,200}$'),
    epoch smallint NOT NULL DEFAULT 1,
    size bigint NOT NULL DEFAULT 0 CHECK (size >= 0),
    last_hash bytea NOT NULL DEFAULT sha256(''),
    last_at timestamptz NOT NULL DEFAULT '-infinity'
);

CREATE TABLE audit_entry (
    organization_id text NOT NULL,
    epoch smallint NOT NULL,
    index bigint NOT NULL CHECK (index >= 0),
    leaf bytea NOT NULL CHECK (octet_length(leaf) <= 16384),
    act text NOT NULL,
    actor text NOT NULL,
    target text NOT NULL,
    request_id text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, epoch, index)
);
CREATE INDEX audit_entry_at ON audit_entry (organization_id, at, index);
CREATE INDEX audit_entry_act ON audit_entry (organization_id, act, epoch, index);
CREATE INDEX audit_entry_actor ON audit_entry (organization_id, actor, epoch, index);
CREATE INDEX audit_entry_target ON audit_entry (organization_id, target, epoch, index);
CREATE INDEX audit_entry_request ON audit_entry (organization_id, request_id, epoch, index);

CREATE TABLE audit_sealed (
    organization_id text NOT NULL,
    epoch smallint NOT NULL,
    index bigint NOT NULL,
    field text NOT NULL,
    salt bytea NOT NULL CHECK (octet_length(salt) = 32),
    value text NOT NULL,
    PRIMARY KEY (organization_id, epoch, index, field),
    FOREIGN KEY (organization_id, epoch, index) REFERENCES audit_entry
);

-- Nobody changes what is written, the owner included. ALWAYS: session_replication_role does not switch them off.
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION audit_head_grows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.size <= OLD.size OR NEW.last_at < OLD.last_at OR NEW.epoch <> OLD.epoch
        OR (NEW.organization_id, NEW.origin) IS DISTINCT FROM (OLD.organization_id, OLD.origin) THEN
        RAISE EXCEPTION 'a ledger''s head only grows' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_entry_keep BEFORE UPDATE OR DELETE ON audit_entry FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_entry_keep_all BEFORE TRUNCATE ON audit_entry EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_sealed_keep BEFORE UPDATE OR DELETE ON audit_sealed FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_sealed_keep_all BEFORE TRUNCATE ON audit_sealed EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_keep BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_keep_all BEFORE TRUNCATE ON audit_head EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_grows BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_grows();
ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_keep;
ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_keep_all;
ALTER TABLE audit_sealed ENABLE ALWAYS TRIGGER audit_sealed_keep;
ALTER TABLE audit_sealed ENABLE ALWAYS TRIGGER audit_sealed_keep_all;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_keep;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_keep_all;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_grows;

-- A caller reaches the ledger of the organization that its transaction works in, or any under `everywhere`.
CREATE FUNCTION audit_reaches(organization text) RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(current_setting('app.organization', true), '') IN (organization, '*')
$$;

-- Lock the head and say what the next entry must carry. The first call for an organization opens its ledger.
-- `behind`: milliseconds by which the clock stands before the previous entry's time.
CREATE FUNCTION ledger_begin(organization text, origin_if_new text,
    OUT log text, OUT next_index bigint, OUT prev bytea, OUT at timestamptz, OUT behind bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head public.audit_head;
    clock timestamptz;
BEGIN
    IF NOT public.audit_reaches(organization) THEN
        RAISE EXCEPTION 'this transaction does not work in that organization' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO head FROM public.audit_head h WHERE h.organization_id = organization FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO public.audit_head (organization_id, origin) VALUES (organization, origin_if_new)
            ON CONFLICT (organization_id) DO NOTHING;
        SELECT * INTO head FROM public.audit_head h WHERE h.organization_id = organization FOR UPDATE;
    END IF;
    clock := date_trunc('milliseconds', clock_timestamp());
    log := head.origin;
    next_index := head.size;
    prev := head.last_hash;
    at := greatest(clock, head.last_at);
    behind := CASE WHEN head.size = 0 THEN 0 ELSE greatest(0, extract(epoch FROM head.last_at - clock) * 1000) END;
END $$;

-- Insert a batch of leaves and their openings, and move the head. Everything that the chain rests on is checked here
-- too, so that a faulty or hostile caller can't write an entry that the verifiers would refuse.
CREATE FUNCTION ledger_append(organization text, leaves bytea[], openings jsonb)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head public.audit_head;
    leaf bytea;
    body jsonb;
    at timestamptz;
    first_index bigint;
BEGIN
    IF NOT public.audit_reaches(organization) THEN
        RAISE EXCEPTION 'this transaction does not work in that organization' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO STRICT head FROM public.audit_head h WHERE h.organization_id = organization FOR UPDATE;
    first_index := head.size;
    IF coalesce(array_length(leaves, 1), 0) = 0 THEN
        RAISE EXCEPTION 'nothing to append' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH leaf IN ARRAY leaves LOOP
        IF octet_length(leaf) > 16384 OR position('\x0a'::bytea IN leaf) > 0 THEN
            RAISE EXCEPTION 'entry % has a length or a byte that no leaf has', head.size USING ERRCODE = 'check_violation';
        END IF;
        body := convert_from(leaf, 'UTF8')::jsonb;
        at := (body ->> 't')::timestamptz;
        IF (body ->> 'log') IS DISTINCT FROM head.origin OR (body -> 'i') IS DISTINCT FROM to_jsonb(head.size)
            OR (body ->> 'prev') IS DISTINCT FROM encode(head.last_hash, 'base64')
            OR at IS NULL OR at < head.last_at OR at > clock_timestamp() + interval '1 second' + greatest(interval '0', head.last_at - clock_timestamp())
            OR (body ->> 't') !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$' THEN
            RAISE EXCEPTION 'entry % does not follow the head', head.size USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO public.audit_entry VALUES (
            organization, head.epoch, head.size, leaf, body ->> 'act', body ->> 'actor',
            coalesce(body #>> '{data,target}', ''), coalesce(body #>> '{data,request_id}', ''), at);
        head.size := head.size + 1;
        head.last_hash := sha256('\x00'::bytea || leaf);
        head.last_at := at;
    END LOOP;
    IF EXISTS (SELECT FROM jsonb_array_elements(openings) o WHERE (o ->> 0)::bigint NOT BETWEEN first_index AND head.size - 1) THEN
        RAISE EXCEPTION 'an opening belongs to no entry of this batch' USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO public.audit_sealed
        SELECT organization, head.epoch, (o ->> 0)::bigint, o ->> 1, decode(o ->> 2, 'base64'), o ->> 3
        FROM jsonb_array_elements(openings) o;
    UPDATE public.audit_head h SET size = head.size, last_hash = head.last_hash, last_at = head.last_at
        WHERE h.organization_id = organization;
    RETURN first_index;
END $$;

ALTER TABLE audit_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_sealed ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_head ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_entry FOR SELECT TO keystead_app USING (organization_id = current_setting('app.organization', true));
CREATE POLICY everywhere ON audit_entry FOR SELECT TO keystead_app USING (current_setting('app.organization', true) = '*');
CREATE POLICY tenant ON audit_sealed FOR SELECT TO keystead_app USING (organization_id = current_setting('app.organization', true));
CREATE POLICY everywhere ON audit_sealed FOR SELECT TO keystead_app USING (current_setting('app.organization', true) = '*');
CREATE POLICY notary ON audit_entry FOR SELECT TO keystead_notary USING (true);
CREATE POLICY notary ON audit_sealed FOR SELECT TO keystead_notary USING (true);
CREATE POLICY notary ON audit_head FOR SELECT TO keystead_notary USING (true);

REVOKE ALL ON audit_head, audit_entry, audit_sealed FROM PUBLIC, keystead_app;
REVOKE ALL ON FUNCTION ledger_begin(text, text), ledger_append(text, bytea[], jsonb), audit_reaches(text), audit_refuse(), audit_head_grows() FROM PUBLIC, keystead_app;
GRANT SELECT ON audit_entry, audit_sealed TO keystead_app;
GRANT EXECUTE ON FUNCTION ledger_begin(text, text), ledger_append(text, bytea[], jsonb), audit_reaches(text) TO keystead_app;
GRANT SELECT ON audit_head, audit_entry, audit_sealed TO keystead_notary;
