-- Sends one request again and again, each time with another line of a file.
-- Arguments: a file with the whole request, in which @@ stands for the line; the file of lines, all of one length.

local threads = 0

function setup(thread)
   threads = threads + 1
   thread:set("number", threads)
end

function init(arguments)
   local file = io.open(arguments[1], "rb")
   local template = file:read("*a")
   file:close()
   local from, to = template:find("@@", 1, true)
   head, tail = template:sub(1, from - 1), template:sub(to + 1)
   lines = {}
   for line in io.lines(arguments[2]) do
      lines[#lines + 1] = line
   end
   math.randomseed(os.time() * 16 + number)
end

function request()
   return head .. lines[math.random(#lines)] .. tail
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"calls": %d, "seconds": %f, "p50": %f, "p99": %f, "refused": %d, "broken": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
