-- All notes: key, text and us left of each. KEYS[1]: hash of notes. What has ended goes.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local ends, text = string.match(all[i + 1], '^(%d+) (.*)$')
  local left = tonumber(ends) - now
  if left > 0 then
    found[#found + 1] = all[i]
    found[#found + 1] = text
    found[#found + 1] = string.format('%.0f', left)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return found
