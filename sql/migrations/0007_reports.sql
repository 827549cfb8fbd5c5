-- Roll-ups of facts for reports (docs/internals/decisions/0092-reports.md). The transaction that records facts adds
-- them, and `scrip reports` compares them with the facts.

-- What happened within an hour or a day of the workspace's time zone. Book 0 is all books together; currency '' is
-- none.
CREATE TABLE report_sums (
  workspace int,
  step text COLLATE "C" CHECK (step IN ('hour', 'day')),
  start timestamptz,
  book int,
  currency text COLLATE "C",
  -- Redemptions that stand, with their sums. They count at the time of the redemption, and so do those rolled back.
  redemptions bigint NOT NULL DEFAULT 0,
  rolled_back bigint NOT NULL DEFAULT 0,
  order_value numeric NOT NULL DEFAULT 0,
  discount_amount numeric NOT NULL DEFAULT 0,
  balance_spent numeric NOT NULL DEFAULT 0, -- what of the discounts was taken from cards
  assigned bigint NOT NULL DEFAULT 0,
  -- Users, at their first redemption in this step, even if it was rolled back later: new ones, and those that redeemed
  -- in the workspace before it. Of a day also those at their first redemption in its week.
  new_users bigint NOT NULL DEFAULT 0,
  returning_users bigint NOT NULL DEFAULT 0,
  week_new bigint NOT NULL DEFAULT 0,
  week_returning bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (workspace, step, start, book, currency)
) WITH (fillfactor = 50);

-- The first and last redemption of each user in each book, and in all (book 0) once there are several: the row of the
-- lowest book is that of all. A deleted user has no row.
CREATE TABLE report_users (
  workspace int,
  user_id text COLLATE "C",
  book int,
  first_at timestamptz NOT NULL,
  last_at timestamptz NOT NULL,
  PRIMARY KEY (workspace, user_id, book)
) WITH (fillfactor = 90);

-- What happened to a book's cards within a day of the workspace's time zone, at its own time: a redemption that is
-- rolled back stays spent, and is returned later, or never. `issued` is added with the codes, the others with their
-- facts.
CREATE TABLE card_sums (
  workspace int,
  book int,
  start timestamptz,
  kind text COLLATE "C" CHECK (kind IN ('issued', 'credited', 'spent', 'returned', 'closed')),
  amount numeric NOT NULL,
  PRIMARY KEY (workspace, book, start, kind)
) WITH (fillfactor = 50);

-- Whether a redemption counts its user in the hour, day or week that began at `start`: as a new user, as a returning
-- one (false), or not at all (null), as the user's last redemption before it is within the same one. `first` is the
-- user's first in the workspace.
CREATE FUNCTION is_new_user(start timestamptz, last timestamptz, first timestamptz) RETURNS boolean
IMMUTABLE LANGUAGE sql AS $$
  SELECT CASE WHEN last >= start THEN NULL ELSE first IS NULL OR first >= start END
$$;

-- Empty tables in place of the roll-ups', until the transaction ends.
CREATE FUNCTION hide_rollups() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  CREATE TEMP TABLE report_sums (LIKE public.report_sums INCLUDING ALL) ON COMMIT DROP;
  CREATE TEMP TABLE card_sums (LIKE public.card_sums INCLUDING ALL) ON COMMIT DROP;
  CREATE TEMP TABLE report_users (LIKE public.report_users INCLUDING ALL) ON COMMIT DROP;
END
$$;

-- The books of a report, each with the name of its group: all books together (0), or those with this id and this tag,
-- together, by id, or by each of their tags.
CREATE FUNCTION report_groups(w int, grouped text, only_book uuid, only_tag text) RETURNS TABLE (book int, name text)
STABLE LANGUAGE sql AS $$
  SELECT 0, NULL WHERE grouped = 'none' AND only_book IS NULL AND only_tag IS NULL
  UNION ALL
  SELECT b.book, CASE grouped WHEN 'book' THEN book_id::text WHEN 'tag' THEN tag END
  FROM books b LEFT JOIN LATERAL unnest(tags) AS tag ON grouped = 'tag'
  WHERE b.workspace = w AND (grouped <> 'none' OR only_book IS NOT NULL OR only_tag IS NOT NULL)
    AND (only_book IS NULL OR book_id = only_book) AND (only_tag IS NULL OR only_tag = ANY (tags))
    AND (grouped <> 'tag' OR tag = coalesce(only_tag, tag))
$$;
