package projections

import "unsafe"

// value is one value that a device has sent.
type value struct {
	ts     int64 // Unix milliseconds
	offset int64
	number float64
}

// before orders the values of one device by event time, then by offset.
func (v *value) before(o *value) bool { return v.ts < o.ts || v.ts == o.ts && v.offset < o.offset }

// sum is what the numbers of one series in one interval add up to.
type sum struct {
	key
	older          int32 // the sum of the series that was made before it
	count, nonzero uint64
	sum, min, max  float64
	first, last    value
}

type key struct {
	start  int64 // of the interval, Unix seconds
	series int32
}

func (s *sum) add(v *value) {
	if s.count == 0 {
		s.min, s.max, s.first, s.last = v.number, v.number, *v, *v
	}
	s.count++
	if v.number != 0 {
		s.nonzero++
	}
	s.sum += v.number
	s.min, s.max = min(s.min, v.number), max(s.max, v.number)
	if v.before(&s.first) {
		s.first = *v
	}
	if s.last.before(v) {
		s.last = *v
	}
}

// sums are the sums of all series by intervals of one length. There may be several
// for one interval; ClickHouse adds them up.
type sums struct {
	interval int64 // seconds
	ends     bool  // first and last values are wanted
	all      []sum
}

// lookBack is how many of a series' sums are looked at for the one that a late value
// belongs to.
const lookBack = 16

// at is the series' sum for the interval of the second. newest is the series' newest
// sum: most often it is that.
func (s *sums) at(series int32, newest *int32, second int64) *sum {
	start := floor(second, s.interval)
	for i, n := *newest, 0; i != none && n < lookBack; n++ {
		known := &s.all[i]
		if known.start == start {
			return known
		}
		i = known.older
	}
	s.all = append(s.all, sum{key: key{start, series}, older: *newest})
	*newest = int32(len(s.all) - 1)
	return &s.all[*newest]
}

// none is no index.
const none = -1

// floor is the greatest multiple of interval that is not greater than at.
func floor(at, interval int64) int64 {
	rest := at % interval
	if rest < 0 {
		rest += interval
	}
	return at - rest
}

// sender is who sent a message.
type sender struct{ tenant, device, component, module string }

// series is the values at one path from one sender.
type series struct {
	sender, path int32
	// next is the series that followed it in the sender's last message.
	next     int32
	offset   int64                 // of the last message that had it
	newest   [len(intervals)]int32 // of its sums
	latest   value
	kind     leafKind // of the latest
	from, to int32    // where its text is in the tally's texts
}

// tally is what some messages of one partition add up to, and the latest value of each
// series. It keeps its memory for the next ones.
type tally struct {
	senders     []sender
	firsts      []int32 // by sender: the first series of its last message
	senderIndex map[sender]int32
	paths       []string
	pathIndex   map[string]int32
	series      []series
	seriesIndex map[[2]int32]int32 // by sender and path
	texts       []byte             // of the latest values, with gaps
	leaves      leaves

	sums [len(intervals)]*sums
}

// intervals are those that numbers are added up by, each with its table.
var intervals = [...]struct {
	seconds int64
	table   string
	ends    bool // it has the first and the last values
}{{60, "telemetry_1m", false}, {600, "telemetry_10m", true}, {3600, "telemetry_1h", true}}

func newTally() *tally {
	t := &tally{senderIndex: map[sender]int32{}, pathIndex: map[string]int32{}, seriesIndex: map[[2]int32]int32{}}
	for i, by := range intervals {
		t.sums[i] = &sums{interval: by.seconds, ends: by.ends}
	}
	return t
}

func (t *tally) clear() {
	clear(t.senderIndex)
	clear(t.senders)
	clear(t.pathIndex)
	clear(t.paths)
	clear(t.seriesIndex)
	t.senders, t.firsts, t.paths, t.series, t.texts = t.senders[:0], t.firsts[:0], t.paths[:0], t.series[:0], t.texts[:0]
	for _, s := range t.sums {
		s.all = s.all[:0]
	}
}

// bytes is about how much memory the tally uses.
func (t *tally) bytes() int {
	const forSender, forPath, forSeries, forSum = 200, 200, 150, 150
	n := len(t.senders)*forSender + len(t.paths)*forPath + len(t.series)*forSeries + cap(t.texts)
	for _, s := range t.sums {
		n += len(s.all) * forSum
	}
	return n
}

// add takes in the message at the offset. Offsets must ascend.
func (t *tally) add(from row, offset int64) {
	who := t.sender(from)
	second := floor(from.timestamp, 1000) / 1000
	likely, before := t.firsts[who], int32(none)
	t.leaves.each(from.body, func(l leaf) {
		i := t.find(likely, who, l.path)
		if before == none {
			t.firsts[who] = i
		} else {
			t.series[before].next = i
		}
		s := &t.series[i]
		likely, before = s.next, i
		if s.offset == offset {
			return // of a name that comes twice the first counts
		}
		fresh := s.offset == none
		s.offset = offset
		number, ok := l.number()
		v := value{ts: from.timestamp, offset: offset, number: number}
		if fresh || s.latest.before(&v) {
			s.latest, s.kind = v, l.kind
			t.keepText(s, l.text)
		}
		if ok {
			for n, by := range t.sums {
				by.at(i, &s.newest[n], second).add(&v)
			}
		}
	})
}

// keepText puts the text of the series' latest value in the place of the one before
// it if it fits there.
func (t *tally) keepText(s *series, text []byte) {
	if room := s.to - s.from; int(room) < len(text) {
		s.from = int32(len(t.texts))
		t.texts = append(t.texts, text...)
	} else {
		copy(t.texts[s.from:], text)
	}
	s.to = s.from + int32(len(text))
}

// text is the series' latest value in JSON.
func (t *tally) text(s *series) []byte { return t.texts[s.from:s.to] }

// find is the series of the sender at the path, made when it is not there; likely
// is what was there last time.
func (t *tally) find(likely, who int32, path []byte) int32 {
	if likely != none && t.paths[t.series[likely].path] == string(path) {
		return likely
	}
	k := [2]int32{who, t.path(path)}
	i, ok := t.seriesIndex[k]
	if !ok {
		i = int32(len(t.series))
		t.seriesIndex[k] = i
		t.series = append(t.series, series{sender: k[0], path: k[1], next: none, offset: none, newest: [...]int32{none, none, none}})
	}
	return i
}

func (t *tally) sender(from row) int32 {
	o := sender{tenant: alias(from.tenant), device: alias(from.device), component: alias(from.component), module: alias(from.module)}
	n, ok := t.senderIndex[o]
	if !ok {
		o = sender{tenant: string(from.tenant), device: string(from.device), component: string(from.component), module: string(from.module)}
		n = int32(len(t.senders))
		t.senderIndex[o] = n
		t.senders, t.firsts = append(t.senders, o), append(t.firsts, none)
	}
	return n
}

// alias is the bytes as a string, good as long as they are.
func alias(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // only for a look-up
}

func (t *tally) path(p []byte) int32 {
	n, ok := t.pathIndex[string(p)]
	if !ok {
		n = int32(len(t.paths))
		name := string(p)
		t.pathIndex[name] = n
		t.paths = append(t.paths, name)
	}
	return n
}
