--[[ read_records: read the records of redemptions in a batch's stored answer; changes nothing.
Called by service/engine/operations/batch.py
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings
ARGV  1 events (between spaces), then the requested facts
Reply {OK, name, record, book_id, name, record, book_id, …}, {RECALL, events, as_of} or {outcome}
Event none
Cost  at most 2 commands, and 3 for each of at most 64 events ]]
-- @include gate gate_refuses book facts

facts_from = ARGS.read_records + 1
local got = redis.call('MGET', KEYS[1], KEYS[2])
-- Runs while the gate is full or behind, too.
local refusal = gate_refuses(got[1], true, true)
if refusal then return { refusal } end
if not got[2] then return { OUT.recovering } end
local reply = { OUT.OK }
for name in string.gmatch(ARGV[1], '%S+') do
  local e = facts_of(name)
  if e then
    local size = #reply
    reply[size + 1], reply[size + 2], reply[size + 3] = name, e.record, read_book(e.book).id
  end
end
if lacking then return recall() end
return reply
