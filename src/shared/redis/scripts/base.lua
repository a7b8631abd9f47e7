-- What every script begins with. Moments are milliseconds of this server's clock. A counter is of one of three kinds:
--   slots     a number
--   period    a number that expires after the period's end
--   rolling   buckets of a sixtieth of the window. Its head, four doubles, is the sum of all, the oldest and the newest bucket
--             there may be, and what is in the newest; its tail, a hash under the same key and a `t`, has the others under
--             their indices. Most calls count in the newest bucket, and a call reads the heads of all its counters at once.
-- Keys that a script makes of an id have the prefix of its declared key, and with it the same hash tag and slot.
local call, floor, ceil, max = redis.call, math.floor, math.ceil, math.max
local SLOTS, PERIOD, ROLLING = 0, 1, 2
local GRACE = 60000
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
