-- Requests for wrk; prints the counts as one line of JSON at the end. Use one thread: counters belong to a thread.
--   wrk -t1 … -s load.lua URL -- WORKLOAD RUN AUTHORIZATION IDENTIFIERS OFFSET [FILE]
-- RUN is part of each idempotency key, so that runs do not share keys; IDENTIFIERS are used in turn, from OFFSET on;
-- FILE has "uuid identifier" lines for look-up.

local FIRST_IDENTIFIER = 30000000 -- always eight digits, and amounts six characters: all bodies have the same length
local BODY = {
  '{"currencyCode":"USD","currencySymbol":"$","amount":"',
  '.25","account":"http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob",'
    .. '"identifier":"',
  '","identifierType":"eur","transferType":"p2p"}',
}
local LENGTH = #BODY[1] + 3 + #BODY[2] + 8 + #BODY[3]

sent, answers = 0, {}
local threads = {}
local reserve_head, body_head, host, identifiers, offset
local format = string.format

local function body(n, amount)
  return amount, BODY[2], FIRST_IDENTIFIER + (offset + n) % identifiers, BODY[3]
end

local function reserve(n, amount)
  local cents, middle, identifier, last = body(n, amount or 100 + n % 900)
  return reserve_head .. n .. body_head .. cents .. middle .. identifier .. last
end

local function count(name)
  answers[name] = (answers[name] or 0) + 1
end

local request_of = {}

function request_of.warm()
  sent = sent + 1
  return reserve(sent)
end

request_of.cold = request_of.warm

-- every second request is invalid
function request_of.refuse()
  sent = sent + 1
  return reserve(sent, sent % 2 == 0 and "-99" or nil)
end

local reserved = {}

-- executes the quote that was reserved last, if there is one, else reserves
function request_of.pay()
  sent = sent + 1
  local quote = table.remove(reserved)
  if not quote then
    return reserve(sent)
  end
  local cents, middle, identifier, last = body(quote.n, 100 + quote.n % 900)
  return "PUT /v1/payments/" .. quote.uuid .. host .. body_head .. cents .. middle .. identifier .. last
end

local quotes = {}

request_of["look-up"] = function()
  sent = sent + 1
  return quotes[sent % #quotes + 1]
end

local response_of = {}

function response_of.refuse(status)
  count(format("%d", status))
end

function response_of.pay(status, headers, text)
  local is_payment = text:find('"state"', 1, true)
  count(format("%s %d", is_payment and "pay" or "reserve", status))
  if status == 200 and not is_payment then
    local key = headers["Idempotency-Key"]
    reserved[#reserved + 1] = { uuid = text:match('"uuid":%s*"([%x%-]+)"'), n = tonumber(key:match("%d+$")) }
  end
end

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local workload, run, authorization = args[1], args[2], args[3]
  identifiers, offset = tonumber(args[4]), tonumber(args[5])
  host = " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: " .. authorization
  reserve_head = "POST /v1/quoteSourceAmount" .. host .. "\r\nIdempotency-Key: " .. run .. "-"
  body_head = "\r\nContent-Type: application/json\r\nContent-Length: " .. LENGTH .. "\r\n\r\n" .. BODY[1]
  if args[6] then
    for line in io.lines(args[6]) do
      local uuid, identifier = line:match("(%S+) (%S+)")
      local target = "/v1/quote/" .. uuid .. "?identifierType=eur&identifier=" .. identifier
      quotes[#quotes + 1] = "GET " .. target .. host .. "\r\n\r\n"
    end
  end
  request = request_of[workload]
  response = response_of[workload] -- nil if every response must be 200: reading them takes time
end

local function json(value)
  if type(value) ~= "table" then
    return format("%.0f", value)
  end
  local members = {}
  for name, each in pairs(value) do
    members[#members + 1] = format('"%s":%s', name, json(each))
  end
  return "{" .. table.concat(members, ",") .. "}"
end

function done(summary, latency)
  local errors = summary.errors
  print(json({
    -- wrk calls request() once before it begins
    sent = threads[1]:get("sent") - 1,
    answered = summary.requests,
    answers = threads[1]:get("answers"),
    refused = errors.status,
    lost = { connect = errors.connect, read = errors.read, write = errors.write, timeout = errors.timeout },
    duration_us = summary.duration,
    p50_us = latency:percentile(50),
    p99_us = latency:percentile(99),
    max_us = latency.max,
  }))
end
