-- name: audited_changes
-- The newest changes of books and of single codes with these subjects, and what people did with these codes.
-- $1 workspace int  $2 subjects text[]  $3 limit int
SELECT at, actor, audit.key_id, keys.name AS key_name, person, action, before, after
FROM audit LEFT JOIN keys USING (key_id)
WHERE audit.workspace = $1 AND subject = ANY ($2) AND (action = 'book.changed' OR action LIKE 'coupon.%')
ORDER BY audit.position DESC LIMIT $3;

-- name: erase_audit
-- Replace a user's id by the pseudonym in the audit of the user's creation and changes, up to the deletion, and clear
-- the rest.
-- $1 workspace int  $2 user text  $3 pseudonym text
UPDATE audit SET subject = $3, before = NULL, after = NULL, ip = NULL, user_agent = NULL
WHERE workspace = $1 AND subject = $2 AND action LIKE 'user.%'
    AND position < (SELECT max(position) FROM audit WHERE workspace = $1 AND subject = $3 AND action = 'user.deleted');

-- name: insert_audit
-- Insert an audited action.
-- $1 workspace int  $2 actor text  $3 key_id uuid  $4 person text  $5 ip text  $6 user_agent text  $7 request_id text
-- $8 action text  $9 subject text  $10 before jsonb  $11 after jsonb
INSERT INTO audit (workspace, actor, key_id, person, ip, user_agent, request_id, action, subject, before, after)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: names_of_objects
-- The books, keys, webhooks and jobs of the workspace with these ids: id, name, and the book's id. A webhook's name is
-- its address, a job's is its book's.
-- $1 workspace int  $2 ids uuid[]
SELECT book_id AS id, name, book_id FROM books WHERE workspace = $1 AND book_id = ANY ($2)
UNION ALL
SELECT key_id, name, NULL FROM keys WHERE workspace = $1 AND key_id = ANY ($2)
UNION ALL
SELECT webhook_id, url, NULL FROM webhooks WHERE workspace = $1 AND webhook_id = ANY ($2)
UNION ALL
SELECT job_id, books.name, books.book_id FROM jobs JOIN books USING (workspace, book)
WHERE workspace = $1 AND job_id = ANY ($2);

-- name: page_audit
-- A workspace's audited actions, newest first, filtered by action, actor kind, key, person and time where given. The
-- rows of an upload are one, at the first one's place, with the sum of their codes, and of cards' amounts.
-- $1 workspace int  $2 before bigint  $3 limit int  $4 action text  $5 actor text  $6 key_id uuid  $7 since timestamptz
-- $8 until timestamptz  $9 person text
SELECT
    audit.position, at, actor, audit.key_id, keys.name AS key_name, person, ip, user_agent, request_id, action, subject,
    before, CASE WHEN after ? 'upload' THEN (
        SELECT jsonb_strip_nulls(jsonb_build_object(
            'count', (audit.after ->> 'count')::bigint + coalesce(sum((part.after ->> 'count')::bigint), 0),
            'amount',
            ((audit.after ->> 'amount')::numeric + coalesce(sum((part.after ->> 'amount')::numeric), 0))::text,
            'currency', audit.after ->> 'currency'
        )) FROM audit AS part
        WHERE part.workspace = $1 AND part.action = 'codes.added' AND part.after ->> 'partOf' = audit.after ->> 'upload'
    ) ELSE after END AS after
FROM audit LEFT JOIN keys USING (key_id)
WHERE audit.workspace = $1 AND ($2::bigint IS NULL OR audit.position < $2) AND ($4::text IS NULL OR action = $4)
    AND ($5::text IS NULL OR actor = $5) AND ($6::uuid IS NULL OR audit.key_id = $6)
    AND ($7::timestamptz IS NULL OR at >= $7) AND ($8::timestamptz IS NULL OR at < $8)
    AND ($9::text IS NULL OR person = $9)
    AND NOT coalesce(after ? 'partOf', false)
ORDER BY audit.position DESC LIMIT $3;

-- name: read_job_actors
-- Who ordered these jobs.
-- $1 workspace int  $2 job_ids text[]
SELECT coalesce(after ->> 'jobId', subject)::uuid AS job_id, actor, audit.key_id, keys.name AS key_name, person
FROM audit LEFT JOIN keys USING (key_id)
WHERE audit.workspace = $1 AND action IN ('codes.ordered', 'codes.changeOrdered', 'reconcile.ordered')
    AND coalesce(after ->> 'jobId', subject) = ANY ($2);

-- name: read_key_owners
-- The keys with these secrets, revoked ones included.
-- $1 secret_hashes bytea[]
SELECT secret_hash, key_id, workspace FROM keys WHERE secret_hash = ANY ($1);

-- name: read_rollback_actors
-- The people and keys who rolled these redemptions or orders back in the console.
-- $1 workspace int  $2 subjects text[]
SELECT at, subject, actor, audit.key_id, keys.name AS key_name, person FROM audit LEFT JOIN keys USING (key_id)
WHERE audit.workspace = $1 AND subject = ANY ($2) AND action IN ('redemption.rolledBack', 'order.rolledBack');
