-- Grants permits of one rate. KEYS[1]: hash of the rate. Field t: when all that is granted has come
-- back, in microseconds; field n<node>: "<permits held> <when its word ends>".
-- ARGV: node, cost of a permit in us, burst, us that may be granted ahead, us a node's word lasts,
-- wanted, left, unused, taken alone, us it was without us, nodes it knew to ask for this rate.
local node = 'n' .. ARGV[1]
local cost, burst, ahead, lasts = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local wanted, left, unused = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local alone, gone, peers = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local room = burst * cost + ahead
local level, nodes, back = nil, 1, unused
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local name, value = all[i], all[i + 1]
  if name == 't' then
    level = tonumber(value)
  elseif name ~= node then
    local held, ends = string.match(value, '^(%d+) (%d+)$')
    if tonumber(ends) > now then
      nodes = nodes + 1
    else
      back = back + held
      redis.call('HDEL', KEYS[1], name)
    end
  end
end
if not level then
  -- Whoever comes back and finds nothing here must not find a burst.
  level = gone > 0 and now - gone + room or 0
end
if alone > 0 then
  -- The others are not back yet: they are taken to have used as much as this one.
  level = math.max(level, now - gone) + alone * peers * cost
end
-- A clock that went back is not waited for.
level = math.min(math.max(level - back * cost, now), now + room)
local free = math.floor((now + room - level) / cost + 0.001)
-- A part for each node that asks: what one leaves, the others find next time.
local grant = math.min(wanted, math.ceil(free / nodes))
level = level + grant * cost
redis.call('HSET', KEYS[1], 't', string.format('%.2f', level))
if wanted > 0 or left + grant > 0 then
  redis.call('HSET', KEYS[1], node, string.format('%d %.0f', left + grant, now + lasts))
else
  redis.call('HDEL', KEYS[1], node)
end
redis.call('PEXPIRE', KEYS[1], math.ceil((level - now + room + lasts) / 1000) + 1000)
return { grant, nodes, math.ceil(level - now) }
