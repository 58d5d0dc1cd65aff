-- SPDX-License-Identifier: Apache-2.0
--
-- What wrk sends. Its arguments are pairs name=value:
--
--   request=FILE  the request, with places to be filled in: {unique} 36 characters never
--                 sent before, {next} 8 digits counting up, {pick} 12 digits below `pick`,
--                 {word} a line of the file `words`
--   warmup= seconds=  requests are sent for both, and counted during the second
--   requests=     instead: so many are sent, and none counted
--   connections=  of each thread
--   threads=      how many there are
--   tls=1         the connections are encrypted
--   statuses=1    tell 201 from other answers, which costs wrk time
--
-- wrk by itself stops amidst its requests, and nobody knows what became of the last ones.
-- Here a connection that has had its last answer is given nothing more to send, and a
-- thread whose connections have all come to rest says "quiet". Then every request has its
-- answer, and rows in the database can be compared with answers.

local ffi = require("ffi")
ffi.cdef [[
    struct moment { long seconds, nanoseconds; };
    int clock_gettime(int clock, struct moment *now);
]]
local MONOTONIC = 1
local moment = ffi.new("struct moment")

local function now()
    ffi.C.clock_gettime(MONOTONIC, moment)
    return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

-- Of wrk's main thread: it can read the others' global variables at the end.
local threads = {}

function setup(thread)
    threads[#threads + 1] = thread
    thread:set("number", #threads)
end

-- Of each thread: how many requests it sent, those of them sent in the time that counts,
-- how many of its connections are at rest, and how many answers were 201.
sent, counted, resting, created = 0, 0, 0, 0

local option = {}
local parts, places = {}, {}
local words = {}
local first, counting, stopping
local looked

local fill = {
    unique = function()
        return string.format("%08x-%04x-4%03x-8000-%012x", math.random(0, 0xffffffff),
                             math.random(0, 0xffff), number, sent)
    end,
    next = function() return string.format("%08d", sent * option.threads + number) end,
    pick = function() return string.format("%012d", math.random(0, option.pick - 1)) end,
    word = function() return words[math.random(#words)] end,
}

-- Cuts the request into its fixed parts and the places to be filled.
local function read_request(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    local position = 1

    file:close()
    for start, name, after in text:gmatch("(){(%l+)}()") do
        parts[#parts + 1] = text:sub(position, start - 1)
        parts[#parts + 1] = ""
        places[#parts] = fill[name]
        position = after
    end
    parts[#parts + 1] = text:sub(position)
end

function init(arguments)
    for i = 1, #arguments do
        local name, value = arguments[i]:match("^(%l+)=(.*)$")
        option[name] = tonumber(value) or value
    end
    if option.words then
        for line in io.lines(option.words) do
            words[#words + 1] = line
        end
    end
    if option.statuses then
        function response(status)
            created = created + (status == 201 and 1 or 0)
        end
    end
    read_request(option.request)
    math.randomseed(now() * 1e6 % 2^31 + number)
end

local function make()
    for i, filling in pairs(places) do
        parts[i] = filling()
    end
    return table.concat(parts)
end

local function is_over(time)
    if option.requests then
        return sent * option.threads >= option.requests
    end
    return time >= stopping
end

function request()
    local time = now()

    -- wrk looks at the first thread's first request before it begins, and drops it.
    if number == 1 and not looked then
        looked = true
        return make()
    end
    if not first then
        first = time
        counting = first + (option.warmup or 0)
        stopping = counting + (option.seconds or 0)
    end
    if is_over(time) then
        resting = resting + 1
        if resting == option.connections then
            io.stderr:write("quiet\n")
        end
        -- Nothing at all is no TLS record; httpd takes an empty line for nothing, too.
        return option.tls and "\r\n" or ""
    end
    if time >= counting then
        counted = counted + 1
    end
    sent = sent + 1
    return make()
end

local function sum(name)
    local total = 0

    for _, thread in ipairs(threads) do
        total = total + thread:get(name)
    end
    return total
end

function done(summary, latency)
    local errors = summary.errors

    io.write(string.format(
        '\nRESULT {"sent": %d, "counted": %d, "created": %d, "answered": %d, ' ..
        '"refused": %d, "closed": %d, "broken": %d, "median": %f}\n',
        sum("sent"), sum("counted"), sum("created"), summary.requests, errors.status,
        errors.read + errors.write, errors.connect + errors.timeout,
        latency:percentile(50) / 1e6))
end
