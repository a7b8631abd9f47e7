
-- All takes of a call, or none. KEYS[1] is the epoch; ARGV is
--   {prefix, session, epoch, best before, hold, 1 if the hold has a record} and {id, kind, window, amount, limit, …}
-- No limit is -1. The second goes into the hold's record as it came. Answers {status, now, …}: 0 taken (used, for each),
-- 1 short (which, used, resets in, wait; -1 is never), 2 too late, 3 another epoch, 4 the hold's record is gone.
local a, takes = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local prefix, count = a[1], #takes / 5
if now > a[4] then return {2, now} end
local names = {KEYS[1]}
local keys = prefix .. 'c:'
for i = 1, count do names[i + 1] = keys .. takes[5 * i - 4] end
local got = call('MGET', unpack(names))
if got[1] ~= a[3] then return {3, now} end
local holds, record = prefix .. 'h:' .. a[2], ''
if a[6] == 1 then
  record = call('HGET', holds, a[5])
  if not record then return {4, now} end
end

-- Looking: nothing but what has left a window changes. Of a rolling counter width, oldest and newest bucket and the newest's
-- content are noted in a row.
local rolling, noted, useds, short = {}, 0, {}, nil
for i = 1, count do
  local at, key = 5 * i - 4, names[i + 1]
  local kind, window, amount, limit = takes[at + 1], takes[at + 2], takes[at + 3], takes[at + 4]
  local used
  if kind == ROLLING then
    local width = ceil(window / 60)
    local sum, oldest, newest, content = look(key, window, width, got[i + 1])
    rolling[noted + 1], rolling[noted + 2], rolling[noted + 3] = width, oldest or false, newest or false
    rolling[noted + 4] = content or false
    noted = noted + 4
    used = sum
  else
    used = tonumber(got[i + 1] or 0)
  end
  useds[i] = used
  if limit >= 0 and used + amount > limit then
    local resets, wait = 0, -1
    if kind == ROLLING then
      local width, oldest, newest, content = unpack(rolling, noted - 3, noted)
      local freed, over = 0, used + amount - limit
      if newest then
        resets = leaves_at(newest, window, width) - now
        if amount <= limit then
          local fields = {}
          for index = oldest, newest do fields[#fields + 1] = text(index) end
          local held = call('HMGET', key .. 't', unpack(fields))
          held[#fields] = content
          for offset, amount_held in ipairs(held) do
            freed = freed + tonumber(amount_held or 0)
            if freed >= over then
              wait = max(1, leaves_at(oldest + offset - 1, window, width) - now)
              break
            end
          end
        end
      end
    elseif kind == PERIOD then
      resets = max(0, window - now)
      if amount <= limit then wait = max(1, resets) end
    elseif amount <= limit then
      wait = 1000
    end
    if not short or wait == -1 or (short[6] ~= -1 and wait > short[6]) then
      if not short or short[6] ~= -1 then short = {1, now, i - 1, used, resets, wait} end
    end
  end
end
if short then return short end

-- Taking.
noted = 0
for i = 1, count do
  local at, key = 5 * i - 4, names[i + 1]
  local kind, window, amount = takes[at + 1], takes[at + 2], takes[at + 3]
  if kind == ROLLING then
    local width, oldest, newest = rolling[noted + 1], rolling[noted + 2], rolling[noted + 3]
    roll(key, window, width, floor(now / width), amount, useds[i], oldest, newest, rolling[noted + 4])
    noted = noted + 4
  else
    call('INCRBY', key, text(amount))
    if kind == PERIOD and not got[i + 1] then call('PEXPIREAT', key, text(max(window, now) + GRACE)) end
  end
  useds[i] = useds[i] + amount
end
call('HSET', holds, a[5], record .. cmsgpack.pack(now) .. ARGV[2])
return {0, now, unpack(useds)}
