package projections

import (
	"math"
	"unsafe"
)

// origin is who sent a message.
type origin struct{ tenant, device, component, module string }

// moment orders the values of one device as the log has them: by event time, then
// by offset.
type moment struct{ ts, offset int64 } // Unix milliseconds

func (m moment) before(o moment) bool { return m.ts < o.ts || m.ts == o.ts && m.offset < o.offset }

// sample is one value a device has sent.
type sample struct {
	at    moment
	value float64
	text  []byte // in JSON; aliases the message
	kind  leafKind
}

// sum is what the numbers at one path from one origin in one interval add up to.
type sum struct {
	key
	count, nonzero uint64
	sum, min, max  float64
	first, last    sample
}

// key says which numbers are added up. The origin and the path are numbers in the
// tally, start is in Unix seconds.
type key struct {
	origin, path uint32
	start        int64
}

// sums are kept in the order in which their first numbers came.
type sums struct {
	interval int64 // seconds
	index    map[key]int
	all      []sum
}

func newSums(interval int64) *sums { return &sums{interval: interval, index: map[key]int{}} }

// at is the sum for the key's interval, made when it is not there.
func (s *sums) at(origin, path uint32, start int64) *sum {
	k := key{origin, path, floor(start, s.interval)}
	i, ok := s.index[k]
	if !ok {
		i = len(s.all)
		s.index[k] = i
		s.all = append(s.all, sum{key: k, min: math.Inf(1), max: math.Inf(-1)})
	}
	return &s.all[i]
}

// floor is the greatest multiple of interval that is not greater than at.
func floor(at, interval int64) int64 {
	rest := at % interval
	if rest < 0 {
		rest += interval
	}
	return at - rest
}

func (s *sum) add(v sample) {
	one := sum{count: 1, sum: v.value, min: v.value, max: v.value, first: v, last: v}
	if v.value != 0 {
		one.nonzero = 1
	}
	s.merge(&one)
}

// merge adds the numbers of another sum.
func (s *sum) merge(o *sum) {
	if s.count == 0 || o.first.at.before(s.first.at) {
		s.first = o.first
	}
	if s.count == 0 || s.last.at.before(o.last.at) {
		s.last = o.last
	}
	s.count += o.count
	s.nonzero += o.nonzero
	s.sum += o.sum
	s.min, s.max = min(s.min, o.min), max(s.max, o.max)
}

func (s *sums) clear() {
	clear(s.index)
	clear(s.all) // let go of the messages
	s.all = s.all[:0]
}

// tally is what some messages add up to, and the latest value at each path. It keeps
// its memory for the next ones.
type tally struct {
	origins     []origin
	originIndex map[origin]uint32
	paths       []string
	pathIndex   map[string]uint32
	seen        []int // by path: the last row that had it, counted from 1
	leaves      leaves

	minutes, hours *sums
	latest         map[key]sample // start is 0
}

func newTally() *tally {
	return &tally{
		originIndex: map[origin]uint32{}, pathIndex: map[string]uint32{},
		minutes: newSums(60), hours: newSums(3600), latest: map[key]sample{},
	}
}

// maxNames bounds the paths that a tally remembers for the next messages.
const maxNames = 10_000

func (t *tally) clear() {
	if len(t.paths) > maxNames {
		clear(t.pathIndex)
		clear(t.paths)
		t.paths, t.seen = t.paths[:0], t.seen[:0]
	}
	clear(t.originIndex)
	clear(t.origins)
	t.origins = t.origins[:0]
	clear(t.seen)
	t.minutes.clear()
	t.hours.clear()
	clear(t.latest)
}

// add takes in all rows but those put aside.
func (t *tally) add(rows *rows, m *telemetryRows, aside map[int64]bool) {
	for i, offset := range rows.offset.of {
		if !aside[offset] {
			at := moment{m.timestamp.of[i], offset}
			t.addMessage(i+1, t.origin(m, i), at, m.body.of[i])
		}
	}
	for i := range t.minutes.all {
		minute := &t.minutes.all[i]
		t.hours.at(minute.origin, minute.path, minute.start).merge(minute)
	}
	for i := range t.hours.all {
		hour := &t.hours.all[i]
		t.note(hour.origin, hour.path, hour.last)
	}
}

func (t *tally) addMessage(row int, origin uint32, at moment, body []byte) {
	second := floor(at.ts, 1000) / 1000
	t.leaves.each(body, func(l leaf) {
		path := t.path(l.path)
		if t.seen[path] == row {
			return // of a name that comes twice the first counts
		}
		t.seen[path] = row
		value, ok := l.number()
		s := sample{at: at, value: value, text: l.text, kind: l.kind}
		if ok {
			t.minutes.at(origin, path, second).add(s)
			return
		}
		t.note(origin, path, s)
	})
}

// note keeps the sample if it is the latest.
func (t *tally) note(origin, path uint32, s sample) {
	k := key{origin: origin, path: path}
	if old, ok := t.latest[k]; !ok || old.at.before(s.at) {
		t.latest[k] = s
	}
}

func (t *tally) origin(m *telemetryRows, i int) uint32 {
	o := origin{tenant: m.tenant.of[i], device: alias(m.device.of[i]), component: m.component.of[i], module: m.module.of[i]}
	n, ok := t.originIndex[o]
	if !ok {
		n = uint32(len(t.origins))
		t.originIndex[o] = n
		t.origins = append(t.origins, o)
	}
	return n
}

// alias is the bytes as a string, good as long as they are.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (t *tally) path(p []byte) uint32 {
	n, ok := t.pathIndex[string(p)]
	if !ok {
		n = uint32(len(t.paths))
		name := string(p)
		t.pathIndex[name] = n
		t.paths, t.seen = append(t.paths, name), append(t.seen, 0)
	}
	return n
}
