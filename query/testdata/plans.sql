-- latest value
SELECT ts, multiIf(isNotNull(body.`location`.`lat`), toJSONString(body.`location`.`lat`), notEmpty(JSONAllPaths(body.^`location`.`lat`)), toJSONString(body.^`location`.`lat`), NULL) AS value FROM telemetry WHERE tenant = {tenant:String} AND device = {device:String} AND component = {component:String} AND module = {module:String} AND (isNotNull(body.`location`.`lat`) OR notEmpty(JSONAllPaths(body.^`location`.`lat`))) ORDER BY ts DESC, partition DESC, offset DESC LIMIT 1
-- component = gps
-- device = d
-- module = 
-- tenant = acme

-- whole messages of the last day
SELECT ts, partition, offset, [toJSONString(body)]::Array(Nullable(String)) FROM telemetry WHERE tenant = {tenant:String} AND device = {device:String} AND component = {component:String} AND module = {module:String} AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC') ORDER BY ts DESC, partition DESC, offset DESC LIMIT {limit:UInt32}
-- component = 
-- device = d
-- from = 1795348800000
-- limit = 101
-- module = 
-- tenant = acme
-- to = 1795435200000

-- two names
SELECT ts, partition, offset, [multiIf(isNotNull(body.`temperature`), toJSONString(body.`temperature`), notEmpty(JSONAllPaths(body.^`temperature`)), toJSONString(body.^`temperature`), NULL), multiIf(isNotNull(body.`location`.`lat`), toJSONString(body.`location`.`lat`), notEmpty(JSONAllPaths(body.^`location`.`lat`)), toJSONString(body.^`location`.`lat`), NULL)]::Array(Nullable(String)) FROM telemetry WHERE tenant = {tenant:String} AND device = {device:String} AND component = {component:String} AND module = {module:String} AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ((isNotNull(body.`temperature`) OR notEmpty(JSONAllPaths(body.^`temperature`))) OR (isNotNull(body.`location`.`lat`) OR notEmpty(JSONAllPaths(body.^`location`.`lat`)))) ORDER BY ts DESC, partition DESC, offset DESC LIMIT {limit:UInt32}
-- component = 
-- device = d
-- from = 1795431600000
-- limit = 11
-- module = 
-- tenant = acme
-- to = 1795435200000

-- two names, next page
SELECT ts, partition, offset, [multiIf(isNotNull(body.`temperature`), toJSONString(body.`temperature`), notEmpty(JSONAllPaths(body.^`temperature`)), toJSONString(body.^`temperature`), NULL), multiIf(isNotNull(body.`location`.`lat`), toJSONString(body.`location`.`lat`), notEmpty(JSONAllPaths(body.^`location`.`lat`)), toJSONString(body.^`location`.`lat`), NULL)]::Array(Nullable(String)) FROM telemetry WHERE tenant = {tenant:String} AND device = {device:String} AND component = {component:String} AND module = {module:String} AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ((isNotNull(body.`temperature`) OR notEmpty(JSONAllPaths(body.^`temperature`))) OR (isNotNull(body.`location`.`lat`) OR notEmpty(JSONAllPaths(body.^`location`.`lat`)))) AND (ts, partition, offset) < (fromUnixTimestamp64Milli({before:Int64}, 'UTC'), {partition:Int32}, {offset:Int64}) ORDER BY ts DESC, partition DESC, offset DESC LIMIT {limit:UInt32}
-- before = 1795435199995
-- component = 
-- device = d
-- from = 1795431600000
-- limit = 11
-- module = 
-- offset = 7
-- partition = 1
-- tenant = acme
-- to = 1795435200000

-- windows, the usual aggregate
SELECT toUnixTimestamp64Milli(ts) - positiveModulo(toUnixTimestamp64Milli(ts), {width:Int64}) AS window, [toJSONString(avg(coalesce(body.`n`.:Float64, toFloat64(body.`n`.:Int64), toFloat64(body.`n`.:UInt64))))]::Array(Nullable(String)) FROM telemetry WHERE tenant = {tenant:String} AND device = {device:String} AND component = {component:String} AND module = {module:String} AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ((isNotNull(body.`n`) OR notEmpty(JSONAllPaths(body.^`n`)))) GROUP BY window ORDER BY window DESC LIMIT {limit:UInt32}
-- component = 
-- device = d
-- from = 1795431600000
-- limit = 101
-- module = 
-- tenant = acme
-- to = 1795435200000
-- width = 300000

-- windows, every aggregate, next page
SELECT toUnixTimestamp64Milli(ts) - positiveModulo(toUnixTimestamp64Milli(ts), {width:Int64}) AS window, [toJSONString(avg(coalesce(body.`n`.:Float64, toFloat64(body.`n`.:Int64), toFloat64(body.`n`.:UInt64)))), toJSONString(min(coalesce(body.`n`.:Float64, toFloat64(body.`n`.:Int64), toFloat64(body.`n`.:UInt64)))), toJSONString(max(coalesce(body.`n`.:Float64, toFloat64(body.`n`.:Int64), toFloat64(body.`n`.:UInt64)))), toJSONString(sum(coalesce(body.`n`.:Float64, toFloat64(body.`n`.:Int64), toFloat64(body.`n`.:UInt64)))), toString(countIf((isNotNull(body.`n`) OR notEmpty(JSONAllPaths(body.^`n`))))), argMin(multiIf(isNotNull(body.`n`), toJSONString(body.`n`), notEmpty(JSONAllPaths(body.^`n`)), toJSONString(body.^`n`), NULL), (ts, partition, offset)), argMax(multiIf(isNotNull(body.`n`), toJSONString(body.`n`), notEmpty(JSONAllPaths(body.^`n`)), toJSONString(body.^`n`), NULL), (ts, partition, offset))]::Array(Nullable(String)) FROM telemetry WHERE tenant = {tenant:String} AND device = {device:String} AND component = {component:String} AND module = {module:String} AND ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Milli({to:Int64}, 'UTC') AND ((isNotNull(body.`n`) OR notEmpty(JSONAllPaths(body.^`n`)))) GROUP BY window ORDER BY window DESC LIMIT {limit:UInt32}
-- component = 
-- device = d
-- from = 1795431600000
-- limit = 101
-- module = 
-- tenant = acme
-- to = 1795435200000
-- width = 300000

