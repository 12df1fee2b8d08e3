-- The times are the database's, whatever a caller says; what is closed stays closed, and keeps no free text. While it
-- is open its reason can be erased, with whoever wrote it.

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
    IF OLD.ended_at IS NULL AND NEW.reason = '(erased)'
        AND to_jsonb(NEW) - 'reason' = to_jsonb(OLD) - 'reason' THEN
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

-- The organizations that may have entries with these words, the last of which may go on: by the blocks that the worker
-- keeps; and where entries are in no block yet, by a first look for the longest word in their bytes, whatever they are,
-- and in what they sealed. Letters beyond ASCII may be written in either case there, so that with them each may have it.
CREATE FUNCTION audit_search_where(terms text[], is_prefix boolean, organizations text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    longest CONSTANT text := (SELECT w.word FROM unnest(terms) w (word) WHERE w.word ~ '^[ -~]+$' ORDER BY length(w.word) DESC LIMIT 1);
BEGIN
    RETURN QUERY WITH hits AS MATERIALIZED (
        SELECT b.organization_id FROM public.audit_searchblock b
        WHERE b.words @@ (SELECT string_agg(quote_literal(w.word) || CASE WHEN is_prefix AND w.place = cardinality(terms) AND length(w.word) > 2 THEN ':*' ELSE '' END, ' & ')
            FROM unnest(terms) WITH ORDINALITY w (word, place))::tsquery
    )
    SELECT h.organization_id FROM hits h WHERE organizations IS NULL OR h.organization_id = ANY (organizations)
    UNION SELECT b.organization_id FROM public.audit_searchblock b
        WHERE b.words IS NULL AND (organizations IS NULL OR b.organization_id = ANY (organizations))
    UNION SELECT o.id FROM public.orgs_organization o
        CROSS JOIN LATERAL (SELECT e.epoch FROM public.audit_entry e WHERE e.organization_id = o.id ORDER BY e.epoch DESC, e.index DESC LIMIT 1) newest
        CROSS JOIN LATERAL (SELECT coalesce(max(b.block) + 1, 0) * 64 AS index FROM public.audit_searchblock b
            WHERE b.organization_id = o.id AND b.epoch = newest.epoch) tail
        WHERE (organizations IS NULL OR o.id = ANY (organizations)) AND (longest IS NULL
            OR EXISTS (SELECT FROM public.audit_entry e WHERE e.organization_id = o.id AND e.epoch = newest.epoch AND e.index >= tail.index
                AND strpos(lower(encode(e.leaf, 'escape')), longest) > 0)
            OR EXISTS (SELECT FROM public.audit_sealed s WHERE s.organization_id = o.id AND s.epoch = newest.epoch AND s.index >= tail.index
                AND strpos(lower(s.value), longest) > 0));
END $$;

-- Find entries of every organization, or of some, the newest first: for support staff, in a transaction that works
-- everywhere. Arguments as audit_search; `actors` and `organizations`: any of them, null for any at all. `cursor_…`: the
-- last entry of the page before, or a time alone, from which to go on.
-- Each organization is asked by one step along an index how new its newest entry of that kind is, and only those are
-- searched that may have one of the `most` newest. Where that gives up, the last row has `is_hit` false, and `at` says
-- how far back everything was looked at.
CREATE FUNCTION audit_search_everywhere(chunks text[], is_prefix boolean, actors text[], acts text[], only_target text, only_request text,
    organizations text[], since timestamptz, until timestamptz,
    cursor_at timestamptz, cursor_organization text, cursor_epoch integer, cursor_index bigint, most integer)
RETURNS TABLE (organization_id text, epoch integer, index bigint, at timestamptz, is_hit boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    words CONSTANT text[] := public.audit_terms(array_to_string(chunks, ' '));
    has_words CONSTANT boolean := cardinality(words) > 0;
    has_filter CONSTANT boolean := actors IS NOT NULL OR acts IS NOT NULL OR only_target IS NOT NULL OR only_request IS NOT NULL;
    mentioning text[];
    found jsonb := '[]';
    last_at timestamptz;
    reached timestamptz;
    looked integer := 0;
    c record;
    s record;
BEGIN
    IF current_setting('app.organization', true) IS DISTINCT FROM '*' THEN
        RAISE EXCEPTION 'this transaction does not work everywhere' USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF has_words THEN
        mentioning := ARRAY(SELECT public.audit_search_where(words, is_prefix, organizations));
    END IF;
    FOR c IN
        SELECT o.id, x.actor, upto.epoch, upto.index, least(t.at, r.at, a.at, k.at, n.at) AS at
        FROM public.orgs_organization o
        CROSS JOIN LATERAL (SELECT least(CASE WHEN o.id > cursor_organization THEN cursor_at - interval '1 millisecond' ELSE cursor_at END,
            until - interval '1 millisecond') AS at) latest
        CROSS JOIN LATERAL (
            SELECT 32767 AS epoch, 9223372036854775806 AS index WHERE latest.at IS NULL
            UNION ALL SELECT cursor_epoch, cursor_index - 1 WHERE o.id = cursor_organization
            UNION ALL (SELECT e.epoch, e.index FROM public.audit_entry e
                WHERE e.organization_id = o.id AND e.at <= latest.at AND o.id IS DISTINCT FROM cursor_organization
                ORDER BY e.at DESC, e.epoch DESC, e.index DESC LIMIT 1)
        ) upto
        CROSS JOIN LATERAL unnest(coalesce(actors, ARRAY[NULL]::text[])) x (actor)
        LEFT JOIN LATERAL (SELECT e.at FROM public.audit_entry e WHERE e.organization_id = o.id AND e.target = only_target
            AND (e.epoch, e.index) <= (upto.epoch, upto.index) ORDER BY e.epoch DESC, e.index DESC LIMIT 1) t ON only_target IS NOT NULL
        LEFT JOIN LATERAL (SELECT e.at FROM public.audit_entry e WHERE e.organization_id = o.id AND e.request_id = only_request
            AND (e.epoch, e.index) <= (upto.epoch, upto.index) ORDER BY e.epoch DESC, e.index DESC LIMIT 1) r ON only_request IS NOT NULL
        LEFT JOIN LATERAL (SELECT e.at FROM public.audit_entry e WHERE e.organization_id = o.id AND e.actor = x.actor
            AND (e.epoch, e.index) <= (upto.epoch, upto.index) ORDER BY e.epoch DESC, e.index DESC LIMIT 1) a ON x.actor IS NOT NULL
        LEFT JOIN LATERAL (SELECT max(l.at) AS at FROM unnest(acts) act CROSS JOIN LATERAL (SELECT e.at FROM public.audit_entry e
            WHERE e.organization_id = o.id AND e.act = act.act AND (e.epoch, e.index) <= (upto.epoch, upto.index)
            ORDER BY e.epoch DESC, e.index DESC LIMIT 1) l) k ON acts IS NOT NULL
        LEFT JOIN LATERAL (SELECT e.at FROM public.audit_entry e WHERE e.organization_id = o.id
            AND (e.epoch, e.index) <= (upto.epoch, upto.index) ORDER BY e.epoch DESC, e.index DESC LIMIT 1) n ON NOT has_filter
        WHERE (organizations IS NULL OR o.id = ANY (organizations)) AND (NOT has_words OR o.id = ANY (mentioning))
            AND (only_target IS NULL OR t.at IS NOT NULL) AND (only_request IS NULL OR r.at IS NOT NULL)
            AND (actors IS NULL OR a.at IS NOT NULL) AND (acts IS NULL OR k.at IS NOT NULL) AND (has_filter OR n.at IS NOT NULL)
            AND (since IS NULL OR least(t.at, r.at, a.at, k.at, n.at) >= since)
        ORDER BY 5 DESC, o.id DESC
    LOOP
        EXIT WHEN c.at < last_at;
        looked := looked + 1;
        IF looked > 150 THEN
            reached := greatest(reached, c.at);
            EXIT;
        END IF;
        PERFORM set_config('app.organization', c.id, true);
        FOR s IN SELECT l.at_epoch, l.at_index, l.is_hit, e.at
            FROM public.audit_search(chunks, is_prefix, c.actor, acts, only_target, only_request, false, since, until,
                0, -1, c.epoch, c.index + 1, false, most) l
            JOIN public.audit_entry e ON e.organization_id = c.id AND e.epoch = l.at_epoch AND e.index = l.at_index
        LOOP
            IF s.is_hit THEN
                found := found || jsonb_build_array(jsonb_build_array(c.id, s.at_epoch, s.at_index, s.at));
            ELSE
                reached := greatest(reached, s.at);
            END IF;
        END LOOP;
        SELECT coalesce(jsonb_agg(b.hit), '[]'), CASE WHEN count(*) = most THEN min((b.hit ->> 3)::timestamptz) END INTO found, last_at
            FROM (SELECT h.hit FROM jsonb_array_elements(found) h (hit)
                ORDER BY (h.hit ->> 3)::timestamptz DESC, h.hit ->> 0 DESC, (h.hit ->> 1)::integer DESC, (h.hit ->> 2)::bigint DESC LIMIT most) b;
    END LOOP;
    PERFORM set_config('app.organization', '*', true);
    RETURN QUERY SELECT h.hit ->> 0, (h.hit ->> 1)::integer, (h.hit ->> 2)::bigint, (h.hit ->> 3)::timestamptz, true
        FROM jsonb_array_elements(found) h (hit) WHERE reached IS NULL OR (h.hit ->> 3)::timestamptz > reached
        ORDER BY 4 DESC, 1 DESC, 2 DESC, 3 DESC;
    IF reached IS NOT NULL THEN
        RETURN QUERY SELECT '', 0, 0::bigint, reached, false;
    END IF;
END $$;

REVOKE ALL ON FUNCTION audit_search_where(text[], boolean, text[]),
    audit_search_everywhere(text[], boolean, text[], text[], text, text, text[], timestamptz, timestamptz, timestamptz, text, integer, bigint, integer)
    FROM PUBLIC, keystead_app;
GRANT EXECUTE ON FUNCTION
    audit_search_everywhere(text[], boolean, text[], text[], text, text, text[], timestamptz, timestamptz, timestamptz, text, integer, bigint, integer)
    TO keystead_app;
