-- What every script begins with. Moments are milliseconds of this server's clock. A counter is of one of three kinds:
--   slots     a number
--   period    a number that expires after the period's end
--   rolling   a hash: the sum of all buckets (s), the oldest (o) and newest (n) bucket there may be, and each bucket under
--             its index; it expires with its newest bucket
-- Keys that a script makes of an id have the prefix of its declared key, and with it the same hash tag and slot.
local call, floor, ceil, max = redis.call, math.floor, math.ceil, math.max
local SLOTS, PERIOD, ROLLING = 0, 1, 2
local GRACE = 60000
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)

local function text(number) return string.format('%d', number) end

-- The first bucket that is still in a window: all others are a whole window old.
local function first_inside(millis, width) return floor((now - millis + 1) / width) end

local function leaves_at(index, millis, width) return (index + 1) * width - 1 + millis end

-- Drops the buckets that have left. Gives the sum and the oldest bucket that may be there.
local function leave(key, millis, width, sum, oldest, newest)
  local first = first_inside(millis, width)
  if oldest >= first then return sum, oldest end
  if newest < first then
    call('DEL', key)
    return 0, nil
  end
  local gone = {}
  for index = oldest, first - 1 do gone[#gone + 1] = text(index) end
  for _, amount in ipairs(call('HMGET', key, unpack(gone))) do sum = sum - (tonumber(amount or 0)) end
  call('HDEL', key, unpack(gone))
  call('HSET', key, 's', text(sum), 'o', text(first))
  return sum, first
end

-- A rolling counter as it is now: sum, oldest and newest bucket, and the content of the bucket `index`.
local function look(key, millis, width, index)
  local got = call('HMGET', key, 's', 'o', 'n', text(index))
  if not got[1] then return 0, nil, nil, nil end
  local sum, oldest = leave(key, millis, width, tonumber(got[1]), tonumber(got[2]), tonumber(got[3]))
  if not oldest then return 0, nil, nil, nil end
  return sum, oldest, tonumber(got[3]), index >= oldest and tonumber(got[4] or 0) or nil
end

-- Adds to the bucket `index`, which is in the window.
local function roll(key, millis, width, index, amount, sum, oldest, newest, content)
  call('HSET', key, 's', text(sum + amount), text(index), text((content or 0) + amount),
    'o', text(math.min(oldest or index, index)), 'n', text(max(newest or index, index)))
  if not newest or index > newest then call('PEXPIREAT', key, text(leaves_at(index, millis, width) + 1000)) end
end

-- Counts `amount` at the moment `at`, whatever the limit. Gives the bucket.
local function add(key, kind, window, amount, at)
  if kind == ROLLING then
    local width = ceil(window / 60)
    local index = floor(at / width)
    if index < first_inside(window, width) then return index end
    local sum, oldest, newest, content = look(key, window, width, index)
    roll(key, window, width, index, amount, sum, oldest, newest, content)
    return index
  end
  if kind == PERIOD then
    if amount ~= 0 and now <= window + GRACE then
      local value = call('INCRBY', key, text(amount))
      if value <= amount then call('PEXPIREAT', key, text(max(window, now) + GRACE)) end
      if value < 0 then call('DEL', key) end
    end
  elseif call('INCRBY', key, text(amount)) <= 0 then
    call('DEL', key)
  end
  return 0
end

-- Ends a part of a hold: of `amount`, `consumed` is kept.
local function give(key, kind, window, bucket, amount, consumed)
  if kind == SLOTS then
    add(key, kind, window, -amount, now)
  elseif consumed == amount then
    return
  elseif kind == PERIOD then
    add(key, kind, window, consumed - amount, now)
  else
    local width = ceil(window / 60)
    local sum, oldest, newest, content = look(key, window, width, bucket)
    if not oldest or not content then return end
    sum = sum + consumed - amount
    if sum <= 0 then
      call('DEL', key)
    else
      call('HSET', key, 's', text(sum), text(bucket), text(max(0, content + consumed - amount)))
    end
  end
end
