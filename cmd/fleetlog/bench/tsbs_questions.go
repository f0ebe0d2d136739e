package main

import (
	"strings"
	"time"
)

// truckQuestion is a query of TSBS's IoT use case, in SQL over our tables and over
// the plain ones.
type truckQuestion struct {
	name        string
	target      time.Duration
	near        bool // ours is by ten minutes where TSBS's is by the message
	ours, plain string
}

// ourTrucks and tenMinutes are what several of the questions begin with.
const (
	ourTrucks = `(SELECT device, properties.fleet::String AS fleet, properties.driver::String AS driver, properties.model::String AS model,
		properties.load_capacity::Float64 AS load_capacity, properties.nominal_fuel_consumption::Float64 AS nominal
		FROM devices FINAL WHERE tenant = 'default')`
	// The average of a path in each ten minutes of each truck.
	tenMinutes = `(SELECT device, ts AS ten, sum(m.sum) / sum(count) AS mean, sum(count) AS n, sum(nonzero) AS moved
		FROM telemetry_10m AS m WHERE tenant = 'default' AND path = '{path}' AND component = '' AND module = '' {when} GROUP BY device, ten)`
	plainTenMinutes = `(SELECT truck, toStartOfTenMinutes(time) AS ten, avg({path}) AS mean, count() AS n, countIf({path} != 0) AS moved
		FROM plain.{table} WHERE 1 {when} GROUP BY truck, ten)`
)

func truckQuestions(end time.Time) []truckQuestion {
	const quick, slow = 5 * time.Millisecond, 100 * time.Millisecond
	at := func(t time.Time) string { return "'" + t.Format("2006-01-02 15:04:05") + "'" }
	fill := func(sql string, pairs ...string) string {
		return strings.NewReplacer(append([]string{"{ourTrucks}", ourTrucks}, pairs...)...).Replace(sql)
	}
	between := func(column string, from, to time.Time) string {
		return "AND " + column + " >= " + at(from) + " AND " + column + " < " + at(to)
	}
	ours := func(path string, from, to time.Time) string {
		return fill(tenMinutes, "{path}", path, "{when}", between("ts", from, to))
	}
	theirs := func(table, path string, from, to time.Time) string {
		return fill(plainTenMinutes, "{table}", table, "{path}", path, "{when}", between("time", from, to))
	}
	begin := trucksFrom
	sessions := func(hours, periods string) (string, string) {
		from := end.Add(-map[string]time.Duration{"4": 4 * time.Hour, "24": 24 * time.Hour}[hours])
		if from.Before(begin) {
			from = begin
		}
		return fill(`SELECT device, driver FROM (SELECT device FROM ` + ours("velocity", from, end) + ` WHERE mean > 1 GROUP BY device HAVING count() > ` + periods + `) AS s
				JOIN (SELECT device, driver FROM {ourTrucks} WHERE fleet = 'South') AS d USING device ORDER BY ALL`),
			`SELECT name, driver FROM (SELECT truck FROM ` + theirs("readings", "velocity", from, end) + ` WHERE mean > 1 GROUP BY truck HAVING count() > ` + periods + `) AS s
				JOIN plain.tags ON tags.id = s.truck WHERE fleet = 'South' ORDER BY ALL`
	}
	longOurs, longPlain := sessions("4", "22")
	dailyOurs, dailyPlain := sessions("24", "60")
	window := end.Add(-90 * time.Minute)
	return []truckQuestion{
		{"last location of a truck", quick, false,
			`SELECT maxIf(last, path = 'longitude').number, maxIf(last, path = 'latitude').number
				FROM telemetry_latest WHERE tenant = 'default' AND path IN ('longitude', 'latitude') AND device = 'truck_7'`,
			`SELECT argMax(longitude, time), argMax(latitude, time) FROM plain.readings WHERE truck = (SELECT id FROM plain.tags WHERE name = 'truck_7')`},
		{"last location of a fleet's trucks", quick, false,
			fill(`SELECT device, driver, longitude, latitude FROM
				(SELECT device, maxIf(last, path = 'longitude').number AS longitude, maxIf(last, path = 'latitude').number AS latitude
				FROM telemetry_latest WHERE tenant = 'default' AND path IN ('longitude', 'latitude') GROUP BY device) AS l
				JOIN (SELECT device, driver FROM {ourTrucks} WHERE fleet = 'South') AS d USING device ORDER BY ALL`),
			`SELECT name, driver, longitude, latitude FROM (SELECT truck, argMax(longitude, time) AS longitude, argMax(latitude, time) AS latitude FROM plain.readings GROUP BY truck) AS l
				JOIN plain.tags ON tags.id = l.truck WHERE fleet = 'South' ORDER BY ALL`},
		{"trucks low on fuel", quick, false,
			fill(`SELECT device, driver, fuel FROM
				(SELECT device, max(last).number AS fuel FROM telemetry_latest WHERE tenant = 'default' AND path = 'fuel_state' GROUP BY device HAVING fuel < 0.1) AS l
				JOIN (SELECT device, driver FROM {ourTrucks} WHERE fleet = 'South') AS d USING device ORDER BY ALL`),
			`SELECT name, driver, fuel FROM (SELECT truck, argMax(fuel_state, time) AS fuel FROM plain.diagnostics GROUP BY truck HAVING fuel < 0.1) AS l
				JOIN plain.tags ON tags.id = l.truck WHERE fleet = 'South' ORDER BY ALL`},
		{"trucks with a high load", quick, false,
			fill(`SELECT device, driver, load FROM
				(SELECT device, max(last).number AS load FROM telemetry_latest WHERE tenant = 'default' AND path = 'current_load' GROUP BY device) AS l
				JOIN (SELECT device, driver, load_capacity FROM {ourTrucks} WHERE fleet = 'South') AS d USING device WHERE load / load_capacity > 0.9 ORDER BY ALL`),
			`SELECT name, driver, load FROM (SELECT truck, argMax(current_load, time) AS load FROM plain.diagnostics GROUP BY truck) AS l
				JOIN plain.tags ON tags.id = l.truck WHERE fleet = 'South' AND load / load_capacity > 0.9 ORDER BY ALL`},
		{"stationary trucks", slow, false,
			fill(`SELECT device, driver FROM (SELECT device FROM telemetry_1m AS m WHERE tenant = 'default' AND path = 'velocity' ` + between("ts", window, window.Add(10*time.Minute)) + `
				GROUP BY device HAVING sum(m.sum) / sum(count) < 1) AS s JOIN (SELECT device, driver FROM {ourTrucks} WHERE fleet = 'South') AS d USING device ORDER BY ALL`),
			`SELECT name, driver FROM (SELECT truck FROM plain.readings WHERE 1 ` + between("time", window, window.Add(10*time.Minute)) + ` GROUP BY truck HAVING avg(velocity) < 1) AS s
				JOIN plain.tags ON tags.id = s.truck WHERE fleet = 'South' ORDER BY ALL`},
		{"long driving sessions", slow, false, longOurs, longPlain},
		{"long daily sessions", slow, false, dailyOurs, dailyPlain},
		{"average against projected fuel consumption", slow, true,
			fill(`SELECT fleet, round(sum(fuel) / sum(n), 1), round(avg(nominal), 1) FROM
				(SELECT device, sum(f) AS fuel, sum(c) AS n FROM
					(SELECT device, ts, sumIf(m.sum, path = 'fuel_consumption') AS f, sumIf(count, path = 'fuel_consumption') AS c, sumIf(m.sum, path = 'velocity') AS v
					FROM telemetry_10m AS m WHERE tenant = 'default' AND path IN ('fuel_consumption', 'velocity') GROUP BY device, ts) WHERE v > c GROUP BY device) AS s
				JOIN {ourTrucks} AS d USING device GROUP BY fleet ORDER BY ALL`),
			`SELECT fleet, round(sum(fuel) / sum(n), 1), round(avg(nominal_fuel_consumption), 1) FROM
				(SELECT truck, sum(fuel_consumption) AS fuel, count() AS n FROM plain.readings WHERE velocity > 1 GROUP BY truck) AS s
				JOIN plain.tags ON tags.id = s.truck GROUP BY fleet ORDER BY ALL`},
		{"average daily driving duration", slow, false,
			fill(`SELECT fleet, device, driver, day, n / 6 AS hours FROM (SELECT device, toDate(ten) AS day, count() AS n FROM ` + ours("velocity", begin, end) + ` WHERE mean > 1 GROUP BY device, day) AS s
				JOIN {ourTrucks} AS d USING device ORDER BY ALL`),
			`SELECT fleet, name, driver, day, n / 6 AS hours FROM (SELECT truck, toDate(ten) AS day, count() AS n FROM ` + theirs("readings", "velocity", begin, end) + ` WHERE mean > 1 GROUP BY truck, day) AS s
				JOIN plain.tags ON tags.id = s.truck ORDER BY ALL`},
		{"average daily driving session", slow, false,
			`SELECT device, toDate(start) AS day, round(avg(length), 3) FROM (` + sessionsOf("device", ours("velocity", begin, end)) + `) GROUP BY device, day ORDER BY ALL`,
			`SELECT concat('truck_', toString(truck)) AS device, toDate(start) AS day, round(avg(length), 3) FROM (` + sessionsOf("truck", theirs("readings", "velocity", begin, end)) + `) GROUP BY device, day ORDER BY ALL`},
		{"average load", slow, false,
			fill(`SELECT fleet, model, load_capacity, round(avg(mean / load_capacity), 6) FROM
				(SELECT device, sum(h.sum) / sum(count) AS mean FROM telemetry_1h AS h WHERE tenant = 'default' AND path = 'current_load' GROUP BY device) AS l
				JOIN {ourTrucks} AS d USING device GROUP BY fleet, model, load_capacity ORDER BY ALL`),
			`SELECT fleet, model, load_capacity, round(avg(mean / load_capacity), 6) FROM (SELECT truck, avg(current_load) AS mean FROM plain.diagnostics GROUP BY truck) AS l
				JOIN plain.tags ON tags.id = l.truck GROUP BY fleet, model, load_capacity ORDER BY ALL`},
		{"daily activity", slow, false,
			fill(`SELECT fleet, model, day, sum(n) / 144 FROM (SELECT device, toDate(ten) AS day, countIf(mean > 1) AS n FROM ` + ours("velocity", begin, end) + ` GROUP BY device, day) AS s
				JOIN {ourTrucks} AS d USING device GROUP BY fleet, model, day ORDER BY ALL`),
			`SELECT fleet, model, day, sum(n) / 144 FROM (SELECT truck, toDate(ten) AS day, countIf(mean > 1) AS n FROM ` + theirs("readings", "velocity", begin, end) + ` GROUP BY truck, day) AS s
				JOIN plain.tags ON tags.id = s.truck GROUP BY fleet, model, day ORDER BY ALL`},
		{"breakdown frequency", slow, false,
			fill(`SELECT model, sum(broke) FROM (` + breakdownsOf("device", ours("status", begin, end)) + `) AS s JOIN {ourTrucks} AS d USING device GROUP BY model ORDER BY ALL`),
			`SELECT model, sum(broke) FROM (` + breakdownsOf("truck", theirs("diagnostics", "status", begin, end)) + `) AS s JOIN plain.tags ON tags.id = s.truck GROUP BY model ORDER BY ALL`},
	}
}

// sessionsOf are the lengths, in periods, of the stretches in which a truck drove.
// Upstream's SQL counts them by the times between changes; so does this.
func sessionsOf(truck, periods string) string {
	return `SELECT ` + truck + `, started AS start, count() AS length FROM (
		SELECT ` + truck + `, ten, mean > 1 AS driving, maxIf(ten, changed) OVER (PARTITION BY ` + truck + ` ORDER BY ten) AS started FROM (
			SELECT ` + truck + `, ten, mean, (mean > 1) != lagInFrame(mean > 1, 1, 0) OVER (PARTITION BY ` + truck + ` ORDER BY ten) AS changed FROM ` + periods + `))
		WHERE driving GROUP BY ` + truck + `, started`
}

// breakdownsOf counts how often a truck broke down: how often ten minutes in which
// less than half of the statuses were good followed ten minutes that were good.
// Upstream's SQL compares with the next row of any truck and counts repairs as well.
func breakdownsOf(truck, periods string) string {
	return `SELECT ` + truck + `, countIf(down AND NOT before) AS broke FROM (
		SELECT ` + truck + `, moved * 2 < n AS down, lagInFrame(moved * 2 < n, 1, 0) OVER (PARTITION BY ` + truck + ` ORDER BY ten) AS before FROM ` + periods + `)
		GROUP BY ` + truck
}
