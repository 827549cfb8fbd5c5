-- Who changed what, when and from where, in the words of the API; each row is written with its change. No secret, and of a
-- code no more than its end.
CREATE TABLE audit (
  position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace int REFERENCES workspaces (workspace), -- null: attempts with what is nobody's credential
  at timestamptz NOT NULL DEFAULT now(),
  actor text NOT NULL CHECK (actor IN ('key', 'command', 'service')),
  key_id uuid,
  ip text,
  user_agent text,
  request_id text,
  action text NOT NULL,
  subject text NOT NULL,
  before jsonb,
  after jsonb,
  CHECK ((actor = 'key') = (key_id IS NOT NULL))
);
CREATE INDEX audit_of_workspace ON audit (workspace, position);
CREATE INDEX audit_of_users ON audit (workspace, subject) WHERE action LIKE 'user.%';

-- Append-only, whoever asks. But where a user is being erased, a pseudonym takes the user's place in what was said of the
-- user, and the rest of it goes, address and agent included.
CREATE FUNCTION keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF
    TG_OP = 'UPDATE' AND OLD.action LIKE 'user.%' AND num_nonnulls(NEW.before, NEW.after, NEW.ip, NEW.user_agent) = 0
    AND EXISTS (SELECT FROM erasures WHERE workspace = OLD.workspace AND user_id = OLD.subject AND pseudonym = NEW.subject)
    AND to_jsonb(NEW) - '{subject,before,after,ip,user_agent}'::text[]
      = to_jsonb(OLD) - '{subject,before,after,ip,user_agent}'::text[]
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'the audit is append-only';
END $$;
CREATE TRIGGER keep_audit BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION keep_audit();
CREATE TRIGGER keep_audit_whole BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION keep_audit();
