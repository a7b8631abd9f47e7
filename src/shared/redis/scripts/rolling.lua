
local function text(number) return string.format('%d', number) end

-- The first bucket that is still in a window: all others are a whole window old.
local function first_inside(millis, width) return floor((now - millis + 1) / width) end

local function leaves_at(index, millis, width) return (index + 1) * width - 1 + millis end

local function write(key, sum, oldest, newest, content, expires)
  local head = struct.pack('<dddd', sum, oldest, newest, content)
  if expires then
    call('SET', key, head, 'PXAT', text(expires))
  else
    call('SET', key, head, 'KEEPTTL')
  end
end

-- A rolling counter as it is now, by its head: sum, oldest and newest bucket, content of the newest; 0 and nothing where there
-- is none. What has left is dropped.
local function look(key, millis, width, head)
  if not head then return 0 end
  local sum, oldest, newest, content = struct.unpack('<dddd', head)
  local first = first_inside(millis, width)
  if oldest >= first then return sum, oldest, newest, content end
  local tail = key .. 't'
  if newest < first then
    call('DEL', key, tail)
    return 0
  end
  if first - oldest > 100 then
    -- Only a clock that was set makes such a gap.
    call('DEL', tail)
    sum, first = content, newest
  else
    local gone = {}
    for index = oldest, first - 1 do gone[#gone + 1] = text(index) end
    for _, amount in ipairs(call('HMGET', tail, unpack(gone))) do sum = sum - tonumber(amount or 0) end
    call('HDEL', tail, unpack(gone))
  end
  write(key, sum, first, newest, content)
  return sum, first, newest, content
end

-- Adds to the bucket `index`, which is in the window, and gives what there is then.
local function roll(key, millis, width, index, amount, sum, oldest, newest, content)
  if index == newest then
    sum, content = sum + amount, content + amount
    write(key, sum, oldest, newest, content)
  elseif not newest then
    sum, oldest, newest, content = amount, index, index, amount
    write(key, sum, oldest, newest, content, leaves_at(index, millis, width) + 1000)
  elseif index > newest then
    local expires = leaves_at(index, millis, width) + 1000
    if content ~= 0 then
      call('HSET', key .. 't', text(newest), text(content))
      call('PEXPIREAT', key .. 't', text(expires))
    end
    sum, newest, content = sum + amount, index, amount
    write(key, sum, oldest, newest, content, expires)
  else
    call('HINCRBY', key .. 't', text(index), text(amount))
    call('PEXPIREAT', key .. 't', text(leaves_at(newest, millis, width) + 1000))
    sum, oldest = sum + amount, math.min(oldest, index)
    write(key, sum, oldest, newest, content)
  end
  return sum, oldest, newest, content
end
