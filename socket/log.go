package socket

import (
	"sync"
	"time"
)

// logInterval and logBurst bound the lines about clients' requests: a client
// cannot fill the log.
const (
	logInterval = time.Second
	logBurst    = 20
)

// limitedLog passes on a bounded number of lines a second and counts the rest.
type limitedLog struct {
	logf func(format string, args ...any)

	mu      sync.Mutex
	since   time.Time
	lines   int
	dropped int
}

func (l *limitedLog) printf(format string, args ...any) {
	l.mu.Lock()
	if now := time.Now(); now.Sub(l.since) >= logInterval {
		l.since, l.lines = now, 0
	}
	if l.lines++; l.lines > logBurst {
		l.dropped++
		l.mu.Unlock()
		return
	}
	dropped := l.dropped
	l.dropped = 0
	l.mu.Unlock()
	if dropped > 0 {
		l.logf("%d lines about requests were left out", dropped)
	}
	l.logf(format, args...)
}
