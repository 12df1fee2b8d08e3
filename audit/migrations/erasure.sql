-- Erasing sealed personal data (spec LEDGER, Bytes 11): what a `ledger.erasure` names goes as that entry is appended.

-- An opening stays until an entry of its own ledger erases it. The setting says where that entry stands, and is no
-- authority: what the entry's bytes name goes, whoever deletes, and nothing else does, be it the owner or a superuser.
CREATE FUNCTION audit_sealed_stays() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    place bigint[];
    body jsonb;
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('keystead.erasure', true) ~ '^[0-9]{1,4}-[0-9]{1,18}$' THEN
        place := string_to_array(current_setting('keystead.erasure', true), '-')::bigint[];
        SELECT convert_from(e.leaf, 'UTF8')::jsonb INTO body FROM public.audit_entry e
            WHERE e.organization_id = OLD.organization_id AND e.epoch = place[1] AND e.index = place[2];
        IF coalesce(body ->> 'act' = 'ledger.erasure' AND body #> '{data,entries}' @> to_jsonb(OLD.index)
            AND body #> '{data,fields}' ? OLD.field AND coalesce(body #> '{data,epoch}', to_jsonb(place[1])) = to_jsonb(OLD.epoch), false) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

DROP TRIGGER audit_sealed_keep ON audit_sealed;
CREATE TRIGGER audit_sealed_keep BEFORE UPDATE OR DELETE ON audit_sealed FOR EACH ROW EXECUTE FUNCTION audit_sealed_stays();
ALTER TABLE audit_sealed ENABLE ALWAYS TRIGGER audit_sealed_keep;

-- Delete the openings that one erasure entry names; `ledger_append` calls it for each that it appends, so that none is
-- written without its deed. It takes nothing but the place: the entry says the rest. Naming what was never sealed, or
-- comes after, is refused; naming what is gone already changes nothing. Returns how many openings went.
CREATE FUNCTION ledger_erase(organization text, erasure_epoch smallint, erasure_index bigint)
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named jsonb;
    from_epoch bigint;
    indexes bigint[];
    fields text[];
    gone bigint;
BEGIN
    SELECT convert_from(e.leaf, 'UTF8')::jsonb -> 'data' INTO STRICT named FROM public.audit_entry e
        WHERE (e.organization_id, e.epoch, e.index, e.act) = (organization, erasure_epoch, erasure_index, 'ledger.erasure');
    IF jsonb_typeof(named -> 'entries') IS DISTINCT FROM 'array' OR jsonb_typeof(named -> 'fields') IS DISTINCT FROM 'array'
        OR jsonb_typeof(coalesce(named -> 'epoch', '1')) <> 'number'
        OR EXISTS (SELECT FROM jsonb_array_elements(named -> 'entries') e WHERE jsonb_typeof(e) <> 'number')
        OR EXISTS (SELECT FROM jsonb_array_elements(named -> 'fields') f WHERE jsonb_typeof(f) <> 'string') THEN
        RAISE EXCEPTION 'an erasure names entries and fields' USING ERRCODE = 'check_violation';
    END IF;
    from_epoch := coalesce((named ->> 'epoch')::bigint, erasure_epoch);
    indexes := ARRAY(SELECT jsonb_array_elements_text(named -> 'entries')::bigint);
    fields := ARRAY(SELECT jsonb_array_elements_text(named -> 'fields'));
    IF cardinality(indexes) = 0 OR cardinality(fields) = 0 OR EXISTS (
        SELECT FROM unnest(indexes) i WHERE (from_epoch, i) >= (erasure_epoch, erasure_index) OR NOT EXISTS (
            SELECT FROM public.audit_entry e WHERE e.organization_id = organization AND e.epoch = from_epoch AND e.index = i
                AND (convert_from(e.leaf, 'UTF8')::jsonb -> 'sealed') ?& fields)) THEN
        RAISE EXCEPTION 'an erasure names what was never sealed' USING ERRCODE = 'check_violation';
    END IF;
    PERFORM set_config('keystead.erasure', erasure_epoch || '-' || erasure_index, true);
    DELETE FROM public.audit_sealed s WHERE s.organization_id = organization AND s.epoch = from_epoch
        AND s.index = ANY (indexes) AND s.field = ANY (fields);
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('keystead.erasure', '', true);
    PERFORM public.audit_exports_forget(organization);
    PERFORM public.audit_search_forget(organization, from_epoch::smallint, indexes);
    RETURN gone;
END $$;

REVOKE ALL ON FUNCTION audit_sealed_stays(), ledger_erase(text, smallint, bigint) FROM PUBLIC, keystead_app;
