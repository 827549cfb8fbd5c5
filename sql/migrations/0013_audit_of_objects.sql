-- Find the audited changes of a code and its book, and who ordered a job. Changes of the configuration wait while an index
-- is built: some seconds for a million entries of the audit.

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_of_objects ON audit (workspace, subject, position) WHERE action IN ('book.changed', 'coupon.changed');

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_of_jobs ON audit (workspace, (coalesce(after ->> 'jobId', subject)))
WHERE action IN ('codes.ordered', 'codes.changeOrdered', 'reconcile.ordered');
