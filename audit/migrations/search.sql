-- Finding entries (issue: search by keyset). Appending pays nothing: no index and no trigger on audit_entry knows words.
-- A worker's job reads each complete block of 64 consecutive entries and keeps its words; what it has not come to yet,
-- at most the newest entries, is read directly. Nothing here is authority: it only says where to look.

-- The words of the entries 64·block … 64·block + 63. The position of a word in the vector is its entry's place in the
-- block, from 1 on; the organization's id, which no word can be, has none. No words: the block is read directly.
CREATE TABLE audit_searchblock (
    organization_id text NOT NULL,
    epoch smallint NOT NULL,
    block bigint NOT NULL CHECK (block >= 0),
    words tsvector,
    -- Whether the worker shall read the block again.
    is_due boolean NOT NULL DEFAULT false,
    PRIMARY KEY (organization_id, epoch, block)
);
-- The words go out of line, so that finding the blocks of a common word reads few pages.
ALTER TABLE audit_searchblock SET (toast_tuple_target = 128);
CREATE INDEX audit_searchblock_words ON audit_searchblock USING gin (words) WITH (fastupdate = off);
CREATE INDEX audit_searchblock_unread ON audit_searchblock (organization_id, epoch, block) WHERE words IS NULL;

-- What is looked for. `words` and `prefix` are as audit_terms writes them, `phrases` stand in the text as they are.
CREATE TYPE audit_query AS (
    organization_id text, words text[], prefix text, phrases text[],
    actor text, acts text[], target text, request_id text
);

-- The words of a text in their order: runs of letters and digits, in lower case, the first 64 characters of each.
CREATE FUNCTION audit_terms(source text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(left(t.term, 64) ORDER BY t.place), '{}')
    FROM regexp_split_to_table(lower(source), '[^[:alnum:]]+') WITH ORDINALITY t (term, place) WHERE t.term <> ''
$$;

-- Everything in an entry that one may look for, a value a line: act, actor, the values of its data, what it sealed and
-- still opens. Of an entry whose bytes were damaged, only what stands beside them.
CREATE FUNCTION audit_text(e audit_entry) RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    told text;
BEGIN
    BEGIN
        SELECT string_agg(v #>> '{}', E'\n') INTO told
            FROM jsonb_path_query(convert_from(e.leaf, 'UTF8')::jsonb -> 'data', 'strict $.** ? (@.type() == "string" || @.type() == "number")') v;
    EXCEPTION WHEN data_exception THEN
        told := concat_ws(E'\n', e.target, e.request_id);
    END;
    RETURN lower(concat_ws(E'\n', e.act, e.actor, told, (SELECT string_agg(s.value, E'\n' ORDER BY s.field) FROM public.audit_sealed s
        WHERE s.organization_id = e.organization_id AND s.epoch = e.epoch AND s.index = e.index)));
END $$;

-- The words of one block. Null for a block with more of them than a vector holds: it is read directly for good.
CREATE FUNCTION audit_block(organization text, of_epoch smallint, of_block bigint) RETURNS tsvector LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    words text;
BEGIN
    SELECT string_agg('''' || w.term || ''':' || w.places, ' ') INTO words FROM (
        SELECT t.term, string_agg(DISTINCT (e.index % 64 + 1)::text, ',') AS places
        FROM public.audit_entry e CROSS JOIN LATERAL unnest(public.audit_terms(public.audit_text(e))) t (term)
        WHERE e.organization_id = organization AND e.epoch = of_epoch AND e.index BETWEEN of_block * 64 AND of_block * 64 + 63
        GROUP BY t.term) w;
    RETURN ('''' || organization || ''' ' || coalesce(words, ''))::tsvector;
EXCEPTION WHEN program_limit_exceeded THEN
    RETURN NULL;
END $$;

-- Whoever writes blocks of an organization waits for whoever forgets some, and the other way round: otherwise a block
-- read before an erasure could be written after it. It works where each statement sees what was committed before it.
CREATE FUNCTION audit_search_lock(organization text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'blocks of the search are written under read committed alone' USING ERRCODE = 'active_sql_transaction';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('audit_search'), hashtext(organization));
END $$;

-- How many blocks of an epoch are whole: by its head, but never more than there are entries for.
CREATE FUNCTION audit_whole_blocks(organization text, of_epoch integer, size bigint) RETURNS bigint LANGUAGE sql STABLE
    RETURN div(least(size, (SELECT coalesce(max(e.index) + 1::numeric, 0) FROM audit_entry e WHERE e.organization_id = organization AND e.epoch = of_epoch)), 64)::bigint;

-- Read up to `most` blocks of the transaction's organization: those that are due again, then those that are not there
-- yet. Returns how many; 0 where nothing is left. Two at once do one after the other what is there to do, once.
CREATE FUNCTION audit_search_write(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    org CONSTANT text := current_setting('app.organization', true);
    head record;
    missing record;
    written integer;
    more integer;
BEGIN
    IF coalesce(org, '') IN ('', '*') THEN
        RAISE EXCEPTION 'this transaction does not work in one organization' USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM public.audit_search_lock(org);
    UPDATE public.audit_searchblock b SET words = public.audit_block(org, b.epoch, b.block), is_due = false
        WHERE b.organization_id = org AND (b.epoch, b.block) IN (
            SELECT d.epoch, d.block FROM public.audit_searchblock d
            WHERE d.organization_id = org AND d.words IS NULL AND d.is_due ORDER BY d.epoch, d.block LIMIT most);
    GET DIAGNOSTICS written = ROW_COUNT;
    SELECT h.epoch, h.size INTO head FROM public.audit_head h WHERE h.organization_id = org;
    FOR of_epoch IN 1 .. coalesce(head.epoch, 0) LOOP
        -- From the next entry that there is: a ledger that somebody has changed would keep the worker busy for ever, with
        -- a size that it does not have or an entry far away.
        SELECT (SELECT min(e.index) / 64 FROM public.audit_entry e WHERE e.organization_id = org AND e.epoch = of_epoch AND e.index > coalesce(
                (SELECT 64 * max(b.block) + 63 FROM public.audit_searchblock b WHERE b.organization_id = org AND b.epoch = of_epoch), -1)) AS next,
            -- The last block of an epoch that has ended is complete as it is.
            CASE WHEN of_epoch = head.epoch THEN public.audit_whole_blocks(org, head.epoch, head.size)
                ELSE (SELECT max(e.index) / 64 + 1 FROM public.audit_entry e WHERE e.organization_id = org AND e.epoch = of_epoch) END AS count
            INTO missing;
        INSERT INTO public.audit_searchblock (organization_id, epoch, block, words)
            SELECT org, of_epoch, n, public.audit_block(org, of_epoch::smallint, n)
            FROM generate_series(missing.next, least(missing.count, missing.next + most - written) - 1) n
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS more = ROW_COUNT;
        written := written + more;
    END LOOP;
    RETURN written;
END $$;

-- Under `everywhere`: the organizations with blocks to read.
CREATE FUNCTION audit_search_behind() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.organization_id FROM public.audit_head h
    WHERE current_setting('app.organization', true) = '*' AND (
        public.audit_whole_blocks(h.organization_id, h.epoch, h.size) > coalesce((SELECT max(b.block) + 1 FROM public.audit_searchblock b
            WHERE b.organization_id = h.organization_id AND b.epoch = h.epoch), 0)
        OR EXISTS (SELECT FROM public.audit_searchblock b WHERE b.organization_id = h.organization_id AND b.words IS NULL AND b.is_due)
        OR (SELECT max(e.index) / 64 FROM public.audit_entry e WHERE e.organization_id = h.organization_id AND e.epoch = h.epoch - 1)
            > coalesce((SELECT max(b.block) FROM public.audit_searchblock b WHERE b.organization_id = h.organization_id AND b.epoch = h.epoch - 1), -1))
    ORDER BY h.organization_id
$$;

-- Under `everywhere`: how many entries of all organizations' newest epochs stand in no block of words yet, beside the
-- last ones, which make no block. One step along an index for each organization.
CREATE FUNCTION audit_search_lag() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT least(10 ^ 18::numeric, 64 * (coalesce(sum(greatest(0, public.audit_whole_blocks(h.organization_id, h.epoch, h.size) - coalesce((SELECT max(b.block) + 1 FROM public.audit_searchblock b
            WHERE b.organization_id = h.organization_id AND b.epoch = h.epoch), 0))), 0)
        + (SELECT count(*) FROM public.audit_searchblock b WHERE b.words IS NULL AND b.is_due AND current_setting('app.organization', true) = '*')))::bigint
    FROM public.audit_head h WHERE current_setting('app.organization', true) = '*'
$$;

-- For ledger_erase, and nobody else may call it: forget the words of the blocks in which these entries stand (an
-- entry's block is its index / 64, which this does itself), once their openings are deleted. Until the worker has read
-- the blocks again, from what is left, they are read directly.
CREATE FUNCTION audit_search_forget(organization text, of_epoch smallint, indexes bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.audit_search_lock(organization);
    UPDATE public.audit_searchblock b SET words = NULL, is_due = true
        WHERE b.organization_id = organization AND b.epoch = of_epoch
            AND b.block = ANY (ARRAY(SELECT DISTINCT i / 64 FROM unnest(indexes) i));
END $$;

-- Whether an entry is what is looked for. `has_words`: its block has told already that it has the words.
CREATE FUNCTION audit_matches(q audit_query, e audit_entry, has_words boolean) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    source text;
    terms text[];
BEGIN
    IF e.actor <> q.actor OR e.act <> ALL (q.acts) OR e.target <> q.target OR e.request_id <> q.request_id THEN
        RETURN false;
    ELSIF has_words AND q.phrases = '{}' OR q.words = '{}' AND q.prefix IS NULL THEN
        RETURN true;
    END IF;
    source := public.audit_text(e);
    IF NOT has_words THEN
        terms := public.audit_terms(source);
    END IF;
    RETURN (has_words OR terms @> q.words AND (q.prefix IS NULL OR EXISTS (SELECT FROM unnest(terms) t WHERE t ^@ q.prefix)))
        AND NOT EXISTS (SELECT FROM unnest(q.phrases) p WHERE position(p IN source) = 0);
END $$;

-- Look through entries one by one, strictly between two places, along the index that `way` names. Yields what matches;
-- where `effort` entries were looked at and there may be more, the last of them with `is_hit` false.
CREATE FUNCTION audit_look(q audit_query, way text, low_epoch integer, low_index bigint, high_epoch integer, high_index bigint,
    ascending boolean, most integer, INOUT effort integer, OUT at_epoch integer, OUT at_index bigint, OUT is_hit boolean)
RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e public.audit_entry;
    found integer := 0;
    condition CONSTANT text := CASE way WHEN 'request' THEN 'AND e.request_id = $7' WHEN 'target' THEN 'AND e.target = $8'
        WHEN 'actor' THEN 'AND e.actor = $9' WHEN 'act' THEN 'AND e.act = $10' ELSE '' END;
BEGIN
    FOR e IN EXECUTE format(
        'SELECT e.* FROM public.audit_entry e WHERE e.organization_id = $1 AND (e.epoch, e.index) > ($2::smallint, $3)'
        ' AND (e.epoch, e.index) < ($4::smallint, $5) %1$s ORDER BY e.epoch %2$s, e.index %2$s LIMIT $6', condition, CASE WHEN ascending THEN 'ASC' ELSE 'DESC' END)
        USING q.organization_id, low_epoch, low_index, high_epoch, high_index, effort, q.request_id, q.target, q.actor, q.acts[1]
    LOOP
        effort := effort - 1;
        at_epoch := e.epoch;
        at_index := e.index;
        is_hit := public.audit_matches(q, e, false);
        IF is_hit THEN
            found := found + 1;
            RETURN NEXT;
        END IF;
        EXIT WHEN found = most;
        IF effort = 0 THEN
            is_hit := false;
            RETURN NEXT;
        END IF;
    END LOOP;
    -- The caller reads from the last row what is left of the effort.
    at_epoch := NULL;
    is_hit := false;
    RETURN NEXT;
END $$;

-- Look through the blocks of one epoch, for entries from `first` to `last`. Yields as audit_look does. A block counts
-- as four entries, which is what it costs.
CREATE FUNCTION audit_look_in_blocks(q audit_query, of_epoch integer, first bigint, last bigint,
    ascending boolean, most integer, INOUT effort integer, OUT at_epoch integer, OUT at_index bigint, OUT is_hit boolean)
RETURNS SETOF record LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The actor and the acts are words of their entries too.
    words CONSTANT text[] := ARRAY(SELECT DISTINCT unnest(q.words || public.audit_terms(coalesce(q.actor, '')) || CASE cardinality(q.acts)
        WHEN 1 THEN public.audit_terms(q.acts[1]) ELSE public.audit_terms(split_part(q.acts[1], '.', 1)) END));
    query CONSTANT tsquery := concat_ws(' & ', quote_literal(q.organization_id), (SELECT string_agg(quote_literal(w), ' & ') FROM unnest(words) w),
        quote_literal(q.prefix) || ':*');
    direction CONSTANT text := CASE WHEN ascending THEN 'ASC' ELSE 'DESC' END;
    from_block bigint := first / 64;
    to_block bigint := last / 64;
    b record;
    e record;
    places bigint[];
    found integer := 0;
BEGIN
    -- First the nearest blocks as they come, because common words are in them; then those that the index names.
    FOR round IN 1 .. 2 LOOP
        FOR b IN EXECUTE format(CASE round
            WHEN 1 THEN 'SELECT b.block, b.words FROM public.audit_searchblock b'
                ' WHERE b.organization_id = $1 AND b.epoch = $2::smallint AND b.block BETWEEN $3 AND $4 ORDER BY b.block %1$s LIMIT least($5, 16)'
            ELSE 'WITH hits AS MATERIALIZED (SELECT b.organization_id, b.epoch, b.block FROM public.audit_searchblock b WHERE b.words @@ $6),'
                ' near AS (SELECT h.block FROM hits h WHERE h.organization_id = $1 AND h.epoch = $2::smallint AND h.block BETWEEN $3 AND $4'
                ' UNION ALL SELECT u.block FROM public.audit_searchblock u WHERE u.words IS NULL AND u.organization_id = $1 AND u.epoch = $2::smallint'
                ' AND u.block BETWEEN $3 AND $4 ORDER BY block %1$s LIMIT $5)'
                ' SELECT n.block, b.words FROM near n JOIN public.audit_searchblock b ON b.organization_id = $1 AND b.epoch = $2::smallint AND b.block = n.block'
                ' ORDER BY n.block %1$s' END, direction)
            USING q.organization_id, of_epoch, from_block, to_block, greatest(effort, 0) / 4 + 1, query
        LOOP
            effort := effort - 4;
            IF b.words IS NULL THEN
                effort := effort - 60;
                places := ARRAY(SELECT generate_series(b.block * 64, b.block * 64 + 63));
            ELSE
                places := ARRAY(SELECT b.block * 64 + p - 1 FROM unnest(b.words) w CROSS JOIN unnest(w.positions) p
                    WHERE w.lexeme = ANY (words) OR w.lexeme ^@ q.prefix GROUP BY p
                    HAVING count(*) FILTER (WHERE w.lexeme = ANY (words)) = cardinality(words)
                        AND (q.prefix IS NULL OR bool_or(w.lexeme ^@ q.prefix)));
            END IF;
            FOR e IN EXECUTE format('SELECT e.index, public.audit_matches($1, e, $2) AS is_hit FROM public.audit_entry e'
                ' WHERE e.organization_id = $3 AND e.epoch = $4::smallint AND e.index = ANY ($5) AND e.index BETWEEN $6 AND $7 ORDER BY e.index %s', direction)
                USING q, b.words IS NOT NULL, q.organization_id, of_epoch, places, first, last
            LOOP
                effort := effort - CASE WHEN b.words IS NOT NULL AND q.phrases <> '{}' THEN 1 ELSE 0 END;
                CONTINUE WHEN NOT e.is_hit;
                at_epoch := of_epoch;
                at_index := e.index;
                is_hit := true;
                RETURN NEXT;
                found := found + 1;
                EXIT WHEN found = most;
            END LOOP;
            EXIT WHEN found = most;
            IF ascending THEN
                from_block := b.block + 1;
            ELSE
                to_block := b.block - 1;
            END IF;
            IF effort <= 0 AND from_block <= to_block THEN
                at_epoch := of_epoch;
                at_index := CASE WHEN ascending THEN b.block * 64 + 63 ELSE b.block * 64 END;
                is_hit := false;
                RETURN NEXT;
                EXIT;
            END IF;
        END LOOP;
        EXIT WHEN found = most OR effort <= 0 OR from_block > to_block;
    END LOOP;
    at_epoch := NULL;
    is_hit := false;
    RETURN NEXT;
END $$;

-- Find entries of the transaction's organization, strictly between two places, the newest first or the oldest.
-- `chunks`: what was typed, word by word or phrase by phrase; `is_prefix`: the last one may go on. Null means any for
-- the rest; `own` reads along the actor's own entries alone, so that nothing it takes or says depends on others'.
-- Yields at most `most` places. A bounded look: where it gave up before the end, the last row has `is_hit` false and
-- says how far it came. The organization is never an argument.
CREATE FUNCTION audit_search(chunks text[], is_prefix boolean, only_actor text, only_acts text[], only_target text, only_request text, own boolean,
    since timestamptz, until timestamptz, low_epoch integer, low_index bigint, high_epoch integer, high_index bigint,
    ascending boolean, most integer, OUT at_epoch integer, OUT at_index bigint, OUT is_hit boolean)
RETURNS SETOF record LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    q public.audit_query;
    terms text[];
    way text;
    place record;
    part record;
    last record;
    row record;
    effort integer := 2048;
    found integer := 0;
BEGIN
    q.organization_id := current_setting('app.organization', true);
    IF coalesce(q.organization_id, '') IN ('', '*') OR own AND only_actor IS NULL THEN
        RAISE EXCEPTION 'this transaction does not work in one organization' USING ERRCODE = 'insufficient_privilege';
    END IF;
    terms := public.audit_terms(array_to_string(chunks, ' '));
    IF is_prefix AND length(terms[cardinality(terms)]) > 2 THEN
        q.prefix := terms[cardinality(terms)];
        terms := trim_array(terms, 1);
    END IF;
    q.words := terms;
    q.phrases := ARRAY(SELECT lower(c) FROM unnest(chunks) c WHERE lower(c) ~ '[[:alnum:]][^[:alnum:]]+[[:alnum:]]');
    q.actor := only_actor;
    q.acts := only_acts;
    q.target := only_target;
    q.request_id := only_request;
    IF since IS NOT NULL THEN
        SELECT e.epoch, e.index - 1 AS index INTO place FROM public.audit_entry e
            WHERE e.organization_id = q.organization_id AND e.at >= since ORDER BY e.at, e.epoch, e.index LIMIT 1;
        IF place IS NULL THEN
            RETURN;
        ELSIF (place.epoch, place.index) > (low_epoch, low_index) THEN
            low_epoch := place.epoch;
            low_index := place.index;
        END IF;
    END IF;
    IF until IS NOT NULL THEN
        SELECT e.epoch, e.index INTO place FROM public.audit_entry e
            WHERE e.organization_id = q.organization_id AND e.at >= until ORDER BY e.at, e.epoch, e.index LIMIT 1;
        IF place IS NOT NULL AND (place.epoch, place.index) < (high_epoch, high_index) THEN
            high_epoch := place.epoch;
            high_index := place.index;
        END IF;
    END IF;
    way := CASE WHEN own THEN 'actor' WHEN only_request IS NOT NULL THEN 'request' WHEN only_target IS NOT NULL THEN 'target'
        WHEN q.words <> '{}' OR q.prefix IS NOT NULL OR cardinality(only_acts) > 1 OR only_acts IS NOT NULL AND only_actor IS NOT NULL THEN 'blocks'
        WHEN only_actor IS NOT NULL THEN 'actor' WHEN only_acts IS NOT NULL THEN 'act' ELSE 'all' END;
    FOR part IN
        -- Of each epoch its blocks, and what is in none yet, in the order of the walk; else all of it along one index.
        SELECT o.* FROM (SELECT p.* FROM (
            SELECT n.epoch, CASE WHEN n.epoch = low_epoch THEN low_index + 1 ELSE 0 END AS first,
                CASE WHEN n.epoch = high_epoch THEN high_index - 1 ELSE 9223372036854775806 END AS last, w.written
            FROM generate_series(greatest(low_epoch, 1),
                least(high_epoch, (SELECT max(e.epoch) FROM public.audit_entry e WHERE e.organization_id = q.organization_id))) n (epoch)
            CROSS JOIN LATERAL (SELECT coalesce(max(b.block) + 1, 0) * 64 AS written FROM public.audit_searchblock b
                WHERE b.organization_id = q.organization_id AND b.epoch = n.epoch) w
            WHERE way = 'blocks') s
        CROSS JOIN LATERAL (VALUES (2 * s.epoch, s.epoch, s.first, least(s.last, s.written - 1), true),
            (2 * s.epoch + 1, s.epoch, greatest(s.first, s.written), s.last, false)) p (place, epoch, first, last, is_blocks)
        WHERE p.first <= p.last
        UNION ALL SELECT 0, 0, 0, 0, false WHERE way <> 'blocks') o
        ORDER BY o.place * CASE WHEN ascending THEN 1 ELSE -1 END
    LOOP
        IF effort <= 0 THEN
            at_epoch := last.epoch;
            at_index := CASE WHEN ascending THEN last.last ELSE last.first END;
            is_hit := false;
            RETURN NEXT;
            RETURN;
        END IF;
        last := part;
        FOR row IN SELECT l.* FROM public.audit_look(q, way, low_epoch, low_index, high_epoch, high_index, ascending, most, effort) l WHERE way <> 'blocks'
            UNION ALL SELECT l.* FROM public.audit_look_in_blocks(q, part.epoch, part.first, part.last, ascending, most - found, effort) l WHERE way = 'blocks' AND part.is_blocks
            UNION ALL SELECT l.* FROM public.audit_look(q, 'all', part.epoch, part.first - 1, part.epoch, part.last + 1, ascending, most - found, effort) l
                WHERE way = 'blocks' AND NOT part.is_blocks
        LOOP
            effort := row.effort;
            CONTINUE WHEN row.at_epoch IS NULL;
            at_epoch := row.at_epoch;
            at_index := row.at_index;
            is_hit := row.is_hit;
            found := found + CASE WHEN is_hit THEN 1 ELSE 0 END;
            RETURN NEXT;
            IF NOT is_hit OR found = most THEN
                RETURN;
            END IF;
        END LOOP;
    END LOOP;
END $$;

ALTER TABLE audit_searchblock ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON audit_searchblock FROM PUBLIC, keystead_app;
REVOKE ALL ON FUNCTION audit_terms(text), audit_text(audit_entry), audit_block(text, smallint, bigint), audit_search_lock(text),
    audit_whole_blocks(text, integer, bigint), audit_search_write(integer),
    audit_search_behind(), audit_search_lag(), audit_search_forget(text, smallint, bigint[]), audit_matches(audit_query, audit_entry, boolean),
    audit_look(audit_query, text, integer, bigint, integer, bigint, boolean, integer, integer),
    audit_look_in_blocks(audit_query, integer, bigint, bigint, boolean, integer, integer),
    audit_search(text[], boolean, text, text[], text, text, boolean, timestamptz, timestamptz, integer, bigint, integer, bigint, boolean, integer)
    FROM PUBLIC, keystead_app;
GRANT EXECUTE ON FUNCTION audit_search_write(integer), audit_search_behind(), audit_search_lag(),
    audit_search(text[], boolean, text, text[], text, text, boolean, timestamptz, timestamptz, integer, bigint, integer, bigint, boolean, integer) TO keystead_app;
