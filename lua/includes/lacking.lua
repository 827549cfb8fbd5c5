local facts_from, lacking = 0, {} -- set by each script: where in ARGV facts begin; and what is lacking (includes/facts.lua)
