-- Comparing Redis with the record.

-- The bucket of a code, an order or a user in Redis: crc32 & 131071, as in service/formats/key_names.py. Postgres has
-- crc32 since 18; the replacement below takes ten times as long.
DO $migration$
BEGIN
  IF to_regprocedure('crc32(bytea)') IS NOT NULL THEN
    CREATE FUNCTION bucket_of(told text) RETURNS int IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql AS $$
      SELECT (crc32(told::bytea) & 131071)::int
    $$;
  ELSE
    CREATE FUNCTION bucket_of(told text) RETURNS int IMMUTABLE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
    DECLARE
      nibbles CONSTANT bigint[] := ARRAY[0, 498536548, 997073096, 651767980, 1994146192, 1802195444, 1303535960, 1342533948,
        3988292384, 4027552580, 3604390888, 3412177804, 2607071920, 2262029012, 2685067896, 3183342108];
      bytes CONSTANT bytea := convert_to(told, 'UTF8');
      crc bigint := 4294967295;
    BEGIN
      FOR place IN 0..length(bytes) - 1 LOOP
        crc := crc # get_byte(bytes, place);
        crc := nibbles[(crc & 15) + 1] # (crc >> 4);
        crc := nibbles[(crc & 15) + 1] # (crc >> 4);
      END LOOP;
      RETURN (crc # 4294967295) & 131071;
    END
    $$;
  END IF;
END
$migration$;

-- Turns to compare: the process that has the partition's turn, the turn's end, and the start of the schedule.
CREATE TABLE reconciling (
  partition int PRIMARY KEY,
  token uuid,
  until timestamptz,
  begun_at timestamptz NOT NULL DEFAULT now(),
  total bigint NOT NULL DEFAULT 0,
  done bigint NOT NULL DEFAULT 0
);

-- Each workspace's last comparison: its cut, and what differed and still differs, by class.
CREATE TABLE reconciled (
  workspace int PRIMARY KEY REFERENCES workspaces (workspace),
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  found jsonb NOT NULL,
  left_over jsonb NOT NULL
);
CREATE INDEX reconciled_partition ON reconciled (partition);

-- An id as Redis stores it, where '-' is none.
CREATE FUNCTION word_of(told text) RETURNS text IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
  SELECT CASE told WHEN '-' THEN '%-' ELSE coalesce(told, '-') END
$$;

-- Milliseconds since 1970, rounded down.
CREATE FUNCTION ms_of(at timestamptz) RETURNS bigint IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
  SELECT floor(extract(epoch FROM at) * 1000)::bigint
$$;

-- The state right after an event, without later facts. Each function is one SELECT, so that Postgres can use indexes
-- for its callers' conditions.

-- A workspace's redemptions, and their rollbacks.
CREATE FUNCTION redemptions_at(p int, w int, e bigint, s bigint) RETURNS TABLE (
  workspace int, book int, code text, user_id text, order_id text, redemption_id uuid, epoch bigint, seq bigint, slot int,
  max_redemptions int, discount_amount numeric, at_ms bigint, stands boolean, taken boolean
) STABLE LANGUAGE sql AS $$
  SELECT
    r.workspace, r.book, r.code, r.user_id, r.order_id, r.redemption_id, r.epoch, r.seq, r.slot,
    r.max_redemptions, r.discount_amount, ms_of(r.redeemed_at), b.redemption_id IS NULL, b.restore IS NOT TRUE
  FROM redemptions r LEFT JOIN rollbacks b ON b.redemption_id = r.redemption_id AND (b.epoch, b.seq) <= (e, s)
  WHERE r.workspace = w AND r.partition = p AND (r.epoch, r.seq) <= (e, s)
$$;

-- The assignments of a workspace's codes: the open ones, and those taken back after the event.
CREATE FUNCTION assignments_at(p int, w int, e bigint, s bigint) RETURNS TABLE (
  code text, user_id text, at_ms bigint, order_id text
) STABLE LANGUAGE sql AS $$
  SELECT code, user_id, ms_of(assigned_at), order_id FROM open_assignments
  WHERE workspace = w AND (epoch, seq) <= (e, s)
  UNION ALL
  SELECT code, user_id, ms_of(assigned_at), order_id FROM unassignments
  WHERE partition = p AND (epoch, seq) > (e, s) AND workspace = w AND (assigned_epoch, assigned_seq) <= (e, s)
$$;

-- A workspace's codes, all, or these, or those of these books: the expected values of each one's record in Redis (`max`
-- null if it is unused and has no limit of its own), its last standing redemption, and those of a code with several
-- uses, up to a thousand. These are in the order of their events, by epoch and number, like `apply_redeem` in
-- lua/includes/state.lua.
CREATE FUNCTION codes_at(p int, w int, e bigint, s bigint, only_codes text[], only_books int[]) RETURNS TABLE (
  code text, book int, version bigint, active boolean, expires_ms bigint, owner text, at_ms bigint, uses bigint, max int,
  last text, standing text, stand bigint, special boolean
) STABLE LANGUAGE sql AS $$
  SELECT
    c.code, c.book, c.version, c.active, ms_of(c.expires_at), coalesce(a.user_id, kept.owner_id),
    coalesce(a.at_ms, ms_of(CASE WHEN kept.owner_id IS NOT NULL THEN c.created_at END)), coalesce(spent.uses, 0),
    coalesce(spent.max, c.max_redemptions), spent.last[1] || '-' || spent.last[2], spent.standing, coalesce(spent.stand, 0),
    c.owner_id IS NOT NULL OR c.max_redemptions IS NOT NULL OR c.expires_at IS NOT NULL OR NOT c.active
  FROM codes c
  LEFT JOIN (
    SELECT
      r.code, count(*) FILTER (WHERE taken) AS uses, max(max_redemptions) AS max, count(*) FILTER (WHERE stands) AS stand,
      max(ARRAY[epoch, seq]) FILTER (WHERE stands) AS last,
      CASE WHEN count(*) <= 1000 THEN
        string_agg(epoch || '-' || seq || ' ' || epoch * 16 + length(seq::text), ' ')
          FILTER (WHERE stands AND max_redemptions <> 1)
      END AS standing
    FROM redemptions_at(p, w, e, s) r
    WHERE (only_codes IS NULL OR r.code COLLATE "C" = ANY (only_codes)) AND (only_books IS NULL OR r.book = ANY (only_books))
    GROUP BY r.code
  ) AS spent ON spent.code = c.code
  LEFT JOIN (
    SELECT * FROM assignments_at(p, w, e, s) a WHERE only_codes IS NULL OR a.code COLLATE "C" = ANY (only_codes)
  ) AS a ON a.code = c.code
  LEFT JOIN (
    SELECT o.code, o.owner_id FROM codes o
    WHERE o.workspace = w AND o.owner_id IS NOT NULL AND (only_codes IS NULL OR o.code = ANY (only_codes)) AND NOT EXISTS (
      SELECT FROM unassignments u WHERE u.workspace = w AND u.code = o.code AND (u.epoch, u.seq) <= (e, s)
    )
  ) AS kept ON kept.code = c.code
  WHERE c.workspace = w AND (only_codes IS NULL OR c.code = ANY (only_codes))
    AND (only_books IS NULL OR c.book = ANY (only_books))
$$;
