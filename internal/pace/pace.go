// Package pace bounds how often each of many may do something, in bounded memory.
package pace

import (
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// maxKeys bounds a table: beyond it the one unused longest is forgotten, which gives its
// owner a full bucket again.
const maxKeys = 64 << 10

// Limits is a rate limit for each of many. It is safe for concurrent use.
type Limits struct {
	each  rate.Limit
	burst int
	table *lru.Cache[string, *rate.Limiter]
}

// New lets each do so many a second, two seconds' worth at once.
func New(perSecond float64) *Limits {
	table, _ := lru.New[string, *rate.Limiter](maxKeys) // fails only for a size below one
	return &Limits{each: rate.Limit(perSecond), burst: max(1, int(2*perSecond)), table: table}
}

// Allow reports whether one more is within the limit, and counts it.
func (l *Limits) Allow(key string) bool {
	limiter, ok := l.table.Get(key)
	if !ok {
		fresh := rate.NewLimiter(l.each, l.burst)
		if before, found, _ := l.table.PeekOrAdd(key, fresh); found {
			fresh = before
		}
		limiter = fresh
	}
	return limiter.Allow()
}
