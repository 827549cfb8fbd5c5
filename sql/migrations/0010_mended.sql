-- Fences are random: a sequence would give the same ones again after a restore to an earlier time.
DROP SEQUENCE fences;

-- What tells the entry by which a mending is entered from any other of its epoch's number.
ALTER TABLE recoveries ADD COLUMN nonce text NOT NULL DEFAULT '';
