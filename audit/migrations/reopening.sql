-- A new epoch of a ledger (spec LEDGER, "The notary"): where the database was set back, or the signing key is lost.

-- A head only grows, or goes on to a newer epoch whose first entry stands there already and says where the old one
-- was left. So no UPDATE alone takes anything off a ledger, whoever sends it.
CREATE OR REPLACE FUNCTION audit_head_grows() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.organization_id <> OLD.organization_id OR NEW.last_at < OLD.last_at OR NOT (
        (NEW.epoch, NEW.origin) = (OLD.epoch, OLD.origin) AND NEW.size > OLD.size
        OR NEW.epoch > OLD.epoch AND NEW.size = 1
            AND NEW.origin = split_part(OLD.origin, '/', 1) || '/ledger/' || OLD.organization_id || '/' || NEW.epoch
            AND EXISTS (SELECT FROM public.audit_entry e
                WHERE (e.organization_id, e.epoch, e.index, e.act) = (NEW.organization_id, NEW.epoch, 0, 'ledger.reopened')
                    AND sha256('\x00'::bytea || e.leaf) = NEW.last_hash
                    AND convert_from(e.leaf, 'UTF8')::jsonb #> '{data,left}' = public.audit_left(OLD))) THEN
        RAISE EXCEPTION 'a ledger''s head only grows' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;

-- Where a ledger stands, as the entry that goes on in a new epoch must say: `last` vouches for the whole chain.
CREATE FUNCTION audit_left(head audit_head) RETURNS jsonb LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('epoch', head.epoch, 'size', head.size, 'last', encode(head.last_hash, 'base64'))
$$;

-- Open a newer epoch with one entry, `ledger.reopened`. Its data: `left` (where the head stands now), `vkey` (of the new
-- log), `checkpoint` (a signed note of an earlier epoch; the notary accepts no other than the last that it signed) and
-- what else the caller says. `openings` as for ledger_append. Returns the new epoch.
CREATE FUNCTION ledger_reopen(organization text, leaf bytea, openings jsonb)
RETURNS smallint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    head public.audit_head;
    body jsonb;
    base text;
    fresh_epoch smallint;
    at timestamptz;
    opened jsonb;
BEGIN
    IF NOT public.audit_reaches(organization) THEN
        RAISE EXCEPTION 'this transaction does not work in that organization' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO STRICT head FROM public.audit_head h WHERE h.organization_id = organization FOR UPDATE;
    body := public.audit_read(leaf);
    base := split_part(head.origin, '/', 1) || '/ledger/' || organization;
    at := (body ->> 't')::timestamptz;
    IF left(body ->> 'log', length(base) + 1) <> base || '/' OR substr(body ->> 'log', length(base) + 2) !~ '^[1-9][0-9]{0,3}$' THEN
        RAISE EXCEPTION 'the entry names no epoch of this log' USING ERRCODE = 'check_violation';
    END IF;
    fresh_epoch := substr(body ->> 'log', length(base) + 2)::smallint;
    IF fresh_epoch <= head.epoch OR head.size = 0
        OR body ->> 'act' <> 'ledger.reopened' OR body -> 'i' <> '0' OR body -> 'prev' <> to_jsonb(encode(sha256(''), 'base64'))
        OR at < greatest(head.last_at, clock_timestamp() - interval '1 minute')
        OR at > greatest(head.last_at, clock_timestamp() + interval '1 second')
        OR NOT public.audit_is_vkey(body #>> '{data,vkey}', body ->> 'log')
        OR body #> '{data,left}' IS DISTINCT FROM public.audit_left(head)
        OR coalesce(body #>> '{data,checkpoint}', '') !~ ('^' || replace(base, '.', '\.') || '(/[1-9][0-9]{0,3})?\n[1-9][0-9]*\n[A-Za-z0-9+/]{43}=\n\n\u2014 ')
        OR coalesce(nullif(split_part(substr(split_part(body #>> '{data,checkpoint}', E'\n', 1), length(base) + 1), '/', 2), ''), '1')::smallint >= fresh_epoch THEN
        RAISE EXCEPTION 'the entry does not open a new epoch of this ledger' USING ERRCODE = 'check_violation';
    END IF;
    SELECT jsonb_object_agg(o ->> 0, public.audit_commitment(o ->> 0, o ->> 2, decode(o ->> 1, 'base64'))) INTO opened
        FROM jsonb_array_elements(openings) o;
    IF opened IS DISTINCT FROM body -> 'sealed' THEN
        RAISE EXCEPTION 'the openings are not what the entry seals' USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO public.audit_entry VALUES (organization, fresh_epoch, 0, leaf, body ->> 'act', body ->> 'actor',
        coalesce(body #>> '{data,target}', ''), coalesce(body #>> '{data,request_id}', ''), at);
    INSERT INTO public.audit_sealed
        SELECT organization, fresh_epoch, 0, o ->> 0, decode(o ->> 1, 'base64'), o ->> 2 FROM jsonb_array_elements(openings) o;
    UPDATE public.audit_head h SET epoch = fresh_epoch, origin = body ->> 'log', size = 1,
        last_hash = sha256('\x00'::bytea || leaf), last_at = at
        WHERE h.organization_id = organization;
    RETURN fresh_epoch;
END $$;

REVOKE ALL ON FUNCTION audit_left(audit_head), ledger_reopen(text, bytea, jsonb) FROM PUBLIC, keystead_app;
GRANT EXECUTE ON FUNCTION ledger_reopen(text, bytea, jsonb) TO keystead_app;
