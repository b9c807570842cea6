-- Grants parts of one bound on connections. KEYS[1]: hash of the bound. Field n<node>: "<places held>
-- <1 if it is short> <when its word ends>"; field f: until then nobody gets more than it had.
-- ARGV: node, places of all, open, wanted, part so far, short, us a node's word lasts, us it was
-- without us.
local node = 'n' .. ARGV[1]
local total, open, wanted, part = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local short, lasts, gone = ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local others, nodes, rivals, fresh, known = 0, 1, false, 0, false
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name, value = all[i], all[i + 1]
  known = true
  if name == 'f' then
    fresh = tonumber(value)
  elseif name ~= node then
    local held, lacks, ends = string.match(value, '^(%d+) (%d) (%d+)$')
    if tonumber(ends) > now then
      others, nodes = others + held, nodes + 1
      rivals = rivals or lacks == '1'
    else
      redis.call('HDEL', KEYS[1], name)
    end
  end
end
if gone > 0 and not known then
  -- All is forgotten here: the other nodes have to say first what they hold.
  fresh = now + lasts
  redis.call('HSET', KEYS[1], 'f', string.format('%.0f', fresh))
end
local held = math.min(wanted, total - others)
if rivals then
  held = math.min(held, math.ceil(total / nodes))
end
if fresh > now then
  held = math.min(held, part)
end
local granted = math.max(held, open, 0)
if others + open > total then
  -- More are open than there may be: each node keeps an even part, and who has less leaves more.
  granted = math.max(math.min(open, math.floor(total / nodes)), total - others, 0)
end
-- What is open counts until it has ended.
held = math.max(granted, open)
if held > 0 or short then
  redis.call('HSET', KEYS[1], node, string.format('%d %d %.0f', held, short and 1 or 0, now + lasts))
else
  redis.call('HDEL', KEYS[1], node)
end
redis.call('PEXPIRE', KEYS[1], math.ceil(lasts / 1000) + 1000)
return { granted, nodes }
