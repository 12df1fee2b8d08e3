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
    value text NOT NULL CHECK (octet_length(value) <= 2048),
    -- Of an entry: only ledger_append writes here, with the entry itself. A foreign key would look each one up again.
    PRIMARY KEY (organization_id, epoch, index, field)
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
-- Every append passes the condition, and only what is no append costs a call.
CREATE TRIGGER audit_head_grows BEFORE UPDATE ON audit_head FOR EACH ROW
    WHEN (((NEW.organization_id, NEW.origin, NEW.epoch) = (OLD.organization_id, OLD.origin, OLD.epoch)
        AND NEW.size > OLD.size AND NEW.last_at >= OLD.last_at) IS NOT TRUE)
    EXECUTE FUNCTION audit_head_grows();
ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_keep;
ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_keep_all;
ALTER TABLE audit_sealed ENABLE ALWAYS TRIGGER audit_sealed_keep;
ALTER TABLE audit_sealed ENABLE ALWAYS TRIGGER audit_sealed_keep_all;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_keep;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_keep_all;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_grows;

-- A caller reaches the ledger of the organization that its transaction works in, or any under `everywhere`.
CREATE FUNCTION audit_reaches(organization text) RETURNS boolean LANGUAGE sql STABLE
    RETURN coalesce(current_setting('app.organization', true), '') IN (organization, '*');

-- The name of an organization's log (spec LEDGER, Bytes 1). The host is the caller's claim, fixed when the ledger opens.
CREATE FUNCTION audit_is_origin(origin text, organization text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT organization ~ '^org_[a-z0-9_]+$' AND octet_length(origin) <= 200
        AND split_part(origin, '/', 1) ~ '^[a-z0-9_-]+(\.[a-z0-9_-]+)*$'
        AND origin = split_part(origin, '/', 1) || '/ledger/' || organization
$$;

-- Whether a text is the verifier key of that log (Bytes 7), which entry 0 must carry.
CREATE FUNCTION audit_is_vkey(vkey text, log text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(vkey = log || '+' || encode(substring(sha256(convert_to(log, 'UTF8') || '\x0a' || k.key) FOR 4), 'hex')
            || '+' || encode(k.key, 'base64') AND octet_length(k.key) = 33 AND get_byte(k.key, 0) = 1, false)
    FROM (SELECT CASE WHEN right(vkey, 44) ~ '^[A-Za-z0-9+/]{44}$' THEN decode(right(vkey, 44), 'base64') END AS key) k
$$;

-- HMAC-SHA-256 as `sealed` commits to a value (Bytes 11). The salt has 32 bytes, so that the key needs no hashing.
CREATE FUNCTION audit_commitment(field text, value text, salt bytea) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN encode(sha256(
        substring(bit_send(('x' || rpad(encode(salt, 'hex'), 128, '0'))::bit(512) # ('x' || repeat('5c', 64))::bit(512)) FROM 5)
        || sha256(substring(bit_send(('x' || rpad(encode(salt, 'hex'), 128, '0'))::bit(512) # ('x' || repeat('36', 64))::bit(512)) FROM 5)
            || convert_to(field, 'UTF8') || '\x00'::bytea || convert_to(value, 'UTF8'))), 'base64');

-- A string, number, true, false or null as RFC 8785 writes it; null for one that has no place in an entry (Bytes 2).
-- PostgreSQL's own writing of strings and integers agrees with the RFC.
CREATE FUNCTION audit_scalar(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE jsonb_typeof(value)
        WHEN 'string' THEN CASE WHEN octet_length(value #>> '{}') <= 2048 THEN value::text END
        WHEN 'number' THEN CASE WHEN value::text ~ '^-?[0-9]{1,16}$' AND abs(value::numeric) <= 9007199254740991 THEN value::text END
        ELSE value::text END
$$;

-- RFC 8785 of a value in the bounds of Bytes 2; null where one is passed. Only by comparing with it two members of one
-- name are found: jsonb keeps the last alone.
CREATE FUNCTION audit_canonical(value jsonb, depth integer) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    parts text[];
    nested CONSTANT text[] := '{object,array}';
BEGIN
    IF depth > 4 THEN
        RETURN NULL;
    ELSIF jsonb_typeof(value) = 'array' THEN
        SELECT array_agg(CASE WHEN jsonb_typeof(e.value) = ANY (nested) THEN public.audit_canonical(e.value, depth + 1)
                ELSE public.audit_scalar(e.value) END ORDER BY e.ordinality) INTO parts
            FROM jsonb_array_elements(value) WITH ORDINALITY e;
        RETURN CASE WHEN array_position(parts, NULL) IS NULL THEN '[' || coalesce(array_to_string(parts, ','), '') || ']' END;
    END IF;
    SELECT array_agg(CASE WHEN m.key !~ '^[a-z][a-z0-9_]{0,31}$' THEN NULL
            ELSE '"' || m.key || '":' || CASE WHEN jsonb_typeof(m.value) = ANY (nested) THEN public.audit_canonical(m.value, depth + 1)
                ELSE public.audit_scalar(m.value) END END ORDER BY m.key COLLATE "C") INTO parts
        FROM jsonb_each(value) m;
    RETURN CASE WHEN array_position(parts, NULL) IS NULL THEN '{' || coalesce(array_to_string(parts, ','), '') || '}' END;
END $$;

-- Read leaf bytes, or raise: what passes here, every verifier reads (Bytes 2 and 3), but for the list of acts.
CREATE FUNCTION audit_read(leaf bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    body jsonb;
    members text[] := ARRAY['v', 'log', 'i', 't', 'prev', 'act', 'actor', 'data'];
BEGIN
    IF octet_length(leaf) > 16384 THEN
        RAISE EXCEPTION 'an entry has more than 16384 bytes' USING ERRCODE = 'check_violation';
    END IF;
    body := convert_from(leaf, 'UTF8')::jsonb;
    IF jsonb_typeof(body) <> 'object' OR NOT body ?& members OR body - members - 'sealed' <> '{}'
        OR body -> 'v' <> '1' OR jsonb_typeof(body -> 'data') <> 'object' OR jsonb_typeof(body -> 't') <> 'string'
        OR body ->> 't' !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z$'
        OR jsonb_typeof(body -> 'act') <> 'string' OR body ->> 'act' !~ '^[a-z]+(\.[a-z_]+)+$'
        OR jsonb_typeof(body -> 'actor') <> 'string' OR body ->> 'actor' !~ '^[a-z][a-z0-9_]{0,63}$'
        OR coalesce(jsonb_typeof(body #> '{data,target}'), 'string') <> 'string'
        OR coalesce(jsonb_typeof(body #> '{data,request_id}'), 'string') <> 'string'
        OR body -> 'sealed' = '{}' OR jsonb_typeof(body -> 'sealed') <> 'object'
        -- The members of the whole stand in one order, so that only what is in them needs sorting.
        OR convert_to('{"act":' || (body -> 'act')::text || ',"actor":' || (body -> 'actor')::text
            || ',"data":' || public.audit_canonical(body -> 'data', 2) || ',"i":' || public.audit_scalar(body -> 'i')
            || ',"log":' || public.audit_scalar(body -> 'log') || ',"prev":' || public.audit_scalar(body -> 'prev')
            || CASE WHEN body ? 'sealed' THEN ',"sealed":' || public.audit_canonical(body -> 'sealed', 2) ELSE '' END
            || ',"t":' || (body -> 't')::text || ',"v":1}', 'UTF8') IS DISTINCT FROM leaf THEN
        RAISE EXCEPTION 'the bytes are no entry' USING ERRCODE = 'check_violation';
    END IF;
    RETURN body;
END $$;

-- Lock the head and say what the next entry must carry. The first call for an organization opens its ledger.
-- `behind`: milliseconds by which the clock stands before the previous entry's time. `is_heard`: whether any webhook of
-- the organization is enabled; asked here, where it costs no statement of its own. Who waits five seconds for the
-- head gets an error instead: the caller answers 503, and nothing piles up behind a session that hangs.
CREATE FUNCTION ledger_begin(organization text, origin_if_new text,
    OUT log text, OUT next_index bigint, OUT prev bytea, OUT at timestamptz, OUT behind bigint, OUT is_heard boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    head public.audit_head;
    clock timestamptz;
BEGIN
    IF NOT public.audit_reaches(organization) THEN
        RAISE EXCEPTION 'this transaction does not work in that organization' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO head FROM public.audit_head h WHERE h.organization_id = organization FOR UPDATE;
    IF NOT FOUND THEN
        IF NOT coalesce(public.audit_is_origin(origin_if_new, organization), false) THEN
            RAISE EXCEPTION 'that is not the name of this organization''s log' USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO public.audit_head (organization_id, origin) VALUES (organization, origin_if_new)
            -- Whichever index sees the other one who opens it first: both say the same.
            ON CONFLICT DO NOTHING;
        SELECT * INTO head FROM public.audit_head h WHERE h.organization_id = organization FOR UPDATE;
    END IF;
    clock := date_trunc('milliseconds', clock_timestamp());
    log := head.origin;
    next_index := head.size;
    prev := head.last_hash;
    at := greatest(clock, head.last_at);
    behind := CASE WHEN head.size = 0 THEN 0 ELSE greatest(0, extract(epoch FROM head.last_at - clock) * 1000) END;
    is_heard := EXISTS (SELECT FROM public.audit_endpoint e WHERE e.organization_id = organization AND e.disabled_at IS NULL);
END $$;

-- Insert a batch of leaves and their openings, and move the head. `openings` has an array for each leaf, of
-- [field, base64 of the salt, value]. Everything that the chain rests on is checked here too, so that a faulty or
-- hostile caller can't write what the verifiers would refuse: nobody could take it out again.
CREATE FUNCTION ledger_append(organization text, leaves bytea[], openings jsonb)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    head public.audit_head;
    leaf bytea;
    body jsonb;
    at timestamptz;
    first_index bigint;
    sealed integer := 0;
    opened integer := 0;
    fitting integer;
    bodies jsonb[] := '{}';
    erasures bigint[] := '{}';
    erasure bigint;
    has_keys boolean := false;
BEGIN
    IF NOT public.audit_reaches(organization) THEN
        RAISE EXCEPTION 'this transaction does not work in that organization' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO STRICT head FROM public.audit_head h WHERE h.organization_id = organization FOR UPDATE;
    first_index := head.size;
    IF coalesce(cardinality(leaves), 0) = 0 OR array_ndims(leaves) <> 1 OR array_lower(leaves, 1) <> 1
        OR array_position(leaves, NULL) IS NOT NULL OR jsonb_typeof(openings) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION 'nothing to append' USING ERRCODE = 'invalid_parameter_value';
    ELSIF jsonb_array_length(openings) <> cardinality(leaves) THEN
        RAISE EXCEPTION 'each entry needs its openings' USING ERRCODE = 'check_violation';
    END IF;
    FOREACH leaf IN ARRAY leaves LOOP
        body := public.audit_read(leaf);
        at := (body ->> 't')::timestamptz;
        IF body -> 'log' <> to_jsonb(head.origin) OR body -> 'i' <> to_jsonb(head.size)
            OR body -> 'prev' <> to_jsonb(encode(head.last_hash, 'base64'))
            -- Neither back-dated nor ahead: a caller who could push the time on would freeze it for everybody.
            OR at < greatest(head.last_at, clock_timestamp() - interval '1 minute')
            OR at > greatest(head.last_at, clock_timestamp() + interval '1 second')
            OR (head.size = 0) <> (body ->> 'act' = 'ledger.opened')
            -- What opens a newer epoch goes through ledger_reopen alone.
            OR body ->> 'act' = 'ledger.reopened'
            OR body ->> 'act' IN ('ledger.opened', 'ledger.key_added', 'ledger.key_retired')
                AND NOT public.audit_is_vkey(body #>> '{data,vkey}', head.origin) THEN
            RAISE EXCEPTION 'entry % does not follow the head', head.size USING ERRCODE = 'check_violation';
        END IF;
        IF body ->> 'act' = 'ledger.erasure' THEN
            erasures := erasures || head.size;
        END IF;
        has_keys := has_keys OR body ->> 'act' = 'ledger.key_added';
        sealed := sealed + jsonb_array_length(jsonb_path_query_array(body, '$.sealed.*'));
        opened := opened + jsonb_array_length(openings -> (head.size - first_index)::integer);
        bodies := bodies || body;
        head.size := head.size + 1;
        head.last_hash := sha256('\x00'::bytea || leaf);
        head.last_at := at;
    END LOOP;
    INSERT INTO public.audit_entry
        SELECT organization, head.epoch, first_index + l.place - 1, l.leaf, l.body ->> 'act', l.body ->> 'actor',
            coalesce(l.body #>> '{data,target}', ''), coalesce(l.body #>> '{data,request_id}', ''), (l.body ->> 't')::timestamptz
        FROM unnest(leaves, bodies) WITH ORDINALITY l (leaf, body, place);
    -- With two keys of one id (its last 45 characters are the key), or more than a reader takes, no note and no bundle of
    -- this log could be read again.
    IF has_keys AND (SELECT count(DISTINCT k.vkey) > 50 OR count(DISTINCT k.vkey) > count(DISTINCT left(k.vkey, -45)) FROM (
        SELECT convert_from(e.leaf, 'UTF8')::jsonb #>> '{data,vkey}' AS vkey FROM public.audit_entry e
        WHERE e.organization_id = organization AND e.epoch = head.epoch
            AND e.act IN ('ledger.opened', 'ledger.reopened', 'ledger.key_added')) k) THEN
        RAISE EXCEPTION 'the ledger knows a key of that id, or fifty keys' USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO public.audit_sealed
        SELECT organization, head.epoch, first_index + l.place - 1, o ->> 0, decode(o ->> 1, 'base64'), o ->> 2
        FROM jsonb_array_elements(openings) WITH ORDINALITY l (opened, place), jsonb_array_elements(l.opened) o
        WHERE bodies[l.place] #>> ARRAY['sealed', o ->> 0] = public.audit_commitment(o ->> 0, o ->> 2, decode(o ->> 1, 'base64'));
    GET DIAGNOSTICS fitting = ROW_COUNT;
    IF fitting <> sealed OR fitting <> opened THEN
        RAISE EXCEPTION 'the openings are not what the entries seal' USING ERRCODE = 'check_violation';
    END IF;
    UPDATE public.audit_head h SET size = head.size, last_hash = head.last_hash, last_at = head.last_at
        WHERE h.organization_id = organization;
    FOREACH erasure IN ARRAY erasures LOOP
        PERFORM public.ledger_erase(organization, head.epoch, erasure);
    END LOOP;
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
REVOKE ALL ON FUNCTION ledger_begin(text, text), ledger_append(text, bytea[], jsonb), audit_reaches(text), audit_refuse(), audit_head_grows(),
    audit_is_origin(text, text), audit_is_vkey(text, text), audit_commitment(text, text, bytea), audit_scalar(jsonb),
    audit_canonical(jsonb, integer), audit_read(bytea) FROM PUBLIC, keystead_app;
GRANT SELECT ON audit_entry, audit_sealed TO keystead_app;
GRANT EXECUTE ON FUNCTION ledger_begin(text, text), ledger_append(text, bytea[], jsonb), audit_reaches(text) TO keystead_app;
GRANT SELECT ON audit_head, audit_entry, audit_sealed TO keystead_notary;
