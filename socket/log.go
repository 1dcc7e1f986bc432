package socket

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// logInterval and logBurst bound the lines about clients' requests: a client
// cannot fill the log.
const (
	logInterval = time.Second
	logBurst    = 20
)

// limitedLog passes on a bounded number of lines a second and counts the rest.
type limitedLog struct {
	to *slog.Logger

	mu      sync.Mutex
	since   time.Time
	lines   int
	dropped int
}

func (l *limitedLog) write(level slog.Level, message string, attributes ...any) {
	ctx := context.Background()
	if !l.to.Enabled(ctx, level) {
		return
	}
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
		l.to.Warn("lines about requests were left out", driver.LogCount, dropped)
	}
	l.to.Log(ctx, level, message, attributes...)
}
