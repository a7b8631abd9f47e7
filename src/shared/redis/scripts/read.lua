
-- How full counters are. KEYS[1] is the epoch; ARGV[1] is {prefix, then for each: id, kind, window}.
-- Answers {0, now, used, resets in, for each}.
local a = cmsgpack.unpack(ARGV[1])
local answer = {0, now}
for at = 2, #a, 3 do
  local key, kind, window = a[1] .. 'c:' .. a[at], a[at + 1], a[at + 2]
  local used, resets = 0, 0
  if kind == ROLLING then
    local width = ceil(window / 60)
    local sum, _, newest = look(key, window, width, call('GET', key))
    used = sum
    if newest then resets = leaves_at(newest, window, width) - now end
  else
    used = tonumber(call('GET', key) or 0)
    if kind == PERIOD then resets = max(0, window - now) end
  end
  answer[#answer + 1], answer[#answer + 2] = used, resets
end
return answer
