-- Sets or withdraws a note. KEYS[1]: hash of notes, "<end in us> <text>" each. ARGV: key, text, us it
-- lasts (0 withdraws), channel, "1" to leave a note alone that is there.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lasts = tonumber(ARGV[3])
local there = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[5] == '1' and there and tonumber(string.match(there, '^%d+')) > now then
  return 0
end
if lasts > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now + lasts) .. ARGV[2])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[4], string.format('%d %.0f ', #ARGV[1], lasts) .. ARGV[1] .. ARGV[2])
return 1
