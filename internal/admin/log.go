package admin

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// logInterval and logBurst bound the lines about refusals: whoever guesses tokens
// cannot fill the log.
const (
	logInterval = time.Second
	logBurst    = 5
)

// refusals writes who was refused, at most so often, and counts the rest.
type refusals struct {
	to *slog.Logger

	mu          sync.Mutex
	since       time.Time
	lines, left int
}

// write tells of one, with what the log of this request has beyond that.
func (l *refusals) write(r *http.Request, why string, more ...any) {
	left, ok := l.may()
	if !ok {
		return
	}
	if left > 0 {
		l.to.Warn("lines about refused operators were left out", driver.LogCount, left)
	}
	// The paths have lock ids and whatever else is tried: what is asked for is enough.
	verb := "force"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		verb = "inspect"
	}
	l.to.Warn("an operator was refused", append([]any{driver.LogRemote, r.RemoteAddr, driver.LogVerb, verb, driver.LogReason, why}, more...)...)
}

// may says whether another line may be written, and how many were not.
func (l *refusals) may() (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.since) >= logInterval {
		l.since, l.lines = now, 0
	}
	if l.lines++; l.lines > logBurst {
		l.left++
		return 0, false
	}
	left, l.left = l.left, 0
	return left, true
}
