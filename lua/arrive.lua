--[[ arrive: append an event after everything that was copied of a workspace: a server that loses some of it loses the
     event, too.
Called by service/hot/key_copies.py, in the worker alone
KEYS  1 gate       string  epoch and state, read first
      2 workspace  string  its settings, which are not here yet: only its name is read
      3 outbox     stream  one event
ARGV  none
Reply {OK, event} or {outcome}
Event K
Cost  at most 3 commands ]]
-- @include gate gate_refuses outbox events

-- Runs while the gate is full or behind, too: a move goes on.
if gate_refuses(redis.call('GET', KEYS[1]), true, true) then return { OUT.recovering } end
local time = redis.call('TIME')
local event = append(KEYS[3], answered_event(whole(time[1] * 1000 + math.floor(time[2] / 1000))), '{}')
if not event then return { OUT.recovering } end
return { OUT.OK, event }
