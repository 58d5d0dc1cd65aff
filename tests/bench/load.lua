-- SPDX-License-Identifier: Apache-2.0
--
-- The script of wrk. Its arguments are pairs name=value:
--
--   request=FILE  a template of the request: {unique} is 36 unique characters, {next} a
--                 counter of 8 digits, {pick} 12 random digits below `pick`, {word} a
--                 random line of the file `words`
--   warmup= seconds=  how long requests are sent before, and while, they are counted
--   requests=     instead: the number of requests, none of which is counted
--   connections=  for each thread
--   threads=      number of threads
--   tls=1         the connections are encrypted
--   statuses=1    count the answers 201, which costs wrk time
--
-- wrk by itself stops with unanswered requests. With this script a connection sends nothing
-- after the last answer, and each thread prints "quiet" when all its connections are idle.
-- Then every request has its answer, and rows in the database can be compared with answers.

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

-- In wrk's main thread, which reads the global variables of the others at the end.
local threads = {}

function setup(thread)
    threads[#threads + 1] = thread
    thread:set("number", #threads)
end

-- In each thread: the requests sent, those of them sent in the counted time, the idle
-- connections, and the answers 201.
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

-- Splits the template into fixed parts and placeholders.
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

    -- wrk makes one request of the first thread before the run and does not send it.
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
        -- TLS has no empty record; httpd ignores an empty line.
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
        '"refused": %d, "closed": %d, "broken": %d, "median": %f, "p99": %f}\n',
        sum("sent"), sum("counted"), sum("created"), summary.requests, errors.status,
        errors.read + errors.write, errors.connect + errors.timeout,
        latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
