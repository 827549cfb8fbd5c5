-- What scripts share with includes/facts.lua, which may be composed later, within a block: so these are declared
-- before. facts_from: where in ARGV the facts begin, the script's own arguments + 1; lacking: the names of facts that
-- are neither in the outbox nor handed in. facts_of adds them, recall() replies with them.
local facts_from, lacking = 0, {}
