-- The audit: who changed what, when and from where, in the API's terms; each row is written with its change. It has no
-- secrets, and only the last characters of codes.
CREATE TABLE audit (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace int REFERENCES workspaces (workspace), -- null: attempts with an unknown credential
  at timestamptz NOT NULL DEFAULT now(),
  actor text NOT NULL CHECK (actor IN ('key', 'person', 'command', 'service')),
  key_id uuid,
  person text,
  ip text,
  user_agent text,
  request_id text,
  action text NOT NULL,
  subject text NOT NULL,
  before jsonb,
  after jsonb,
  CHECK ((actor = 'key') = (key_id IS NOT NULL) AND (actor = 'person') = (person IS NOT NULL))
);
CREATE INDEX audit_of_subjects ON audit (workspace, subject, position);
-- An upload adds its codes in many transactions, each with a row; the audit shows them as one entry, the first one.
CREATE INDEX audit_of_workspace ON audit (workspace, position) WHERE NOT coalesce(after ? 'partOf', false);
CREATE INDEX audit_of_uploads ON audit (workspace, (after ->> 'partOf')) WHERE action = 'codes.added';
-- Who ordered a job.
CREATE INDEX audit_of_jobs ON audit (workspace, (coalesce(after ->> 'jobId', subject)))
WHERE action IN ('codes.ordered', 'codes.changeOrdered', 'reconcile.ordered');

-- Append-only, except that the deletion of a user replaces the user by the pseudonym and clears the rest, with address
-- and agent.
CREATE FUNCTION keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF
    TG_OP = 'UPDATE' AND OLD.action LIKE 'user.%' AND num_nonnulls(NEW.before, NEW.after, NEW.ip, NEW.user_agent) = 0
    AND EXISTS (
      SELECT FROM erasures
      WHERE workspace = OLD.workspace AND user_id = OLD.subject AND pseudonym = NEW.subject
    )
    AND to_jsonb(NEW) - '{subject,before,after,ip,user_agent}'::text[]
      = to_jsonb(OLD) - '{subject,before,after,ip,user_agent}'::text[]
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'the audit is append-only';
END $$;
CREATE TRIGGER keep_audit BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION keep_audit();
CREATE TRIGGER keep_audit_whole BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION keep_audit();
