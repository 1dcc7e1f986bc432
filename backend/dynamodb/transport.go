package dynamodb

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// connections bounds the idle ones that are kept.
	connections = 128
	// idle is for how long one is kept: less than servers do, because a request
	// that meets a close has an unknown outcome.
	idle = 4 * time.Second
)

// wire sends the SDK's requests. It knows which of those that failed were never
// sent, and what time the servers say it is.
type wire struct {
	client *http.Client
	clock  driver.Clock
	told   atomic.Pointer[told]
	// silent: the servers do not say what time it is.
	silent atomic.Bool
}

// told is the time that a server named, and when its answer came.
type told struct {
	date time.Time
	at   driver.Instant
}

// attempt is one request: sent says that there was a connection for it, so that it
// may have arrived.
type attempt struct{ sent atomic.Bool }

type attemptKey struct{}

// track returns a context whose request is followed.
func track(ctx context.Context) (context.Context, *attempt) {
	a := &attempt{}
	return context.WithValue(ctx, attemptKey{}, a), a
}

func newWire(c *tls.Config, clock driver.Clock) *wire {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost, t.IdleConnTimeout = connections, connections, idle
	if c != nil {
		t.TLSClientConfig = c
	}
	return &wire{client: &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a signed request is for one host
	}, clock: clock}
}

// Do sends a request once. The SDK gives it its deadline.
func (w *wire) Do(r *http.Request) (*http.Response, error) {
	if err := hold(r); err != nil {
		return nil, err
	}
	ctx := r.Context()
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { a.sent.Store(true) }})
	}
	answer, err := w.client.Do(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		w.told.Store(&told{date: date, at: w.clock.Now()})
	} else {
		w.silent.Store(true)
	}
	return answer, nil
}

// hold takes the request's body into memory. The SDK's own fails once the answer has
// begun, and says so as an error of the request: when net/http looks a moment later
// whether there is more of it to send, it closes the connection under the answer.
// Besides, the header and what is known to be in memory go out in one packet.
func hold(r *http.Request) error {
	if r.Body == nil {
		return nil
	}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	return nil
}

func (w *wire) close() { w.client.CloseIdleConnections() }

const (
	// skewed is by how much a clock may differ from the servers' and still make
	// tokens.
	skewed = 5 * time.Minute
	// toldFor is how long what a server said is evidence.
	toldFor = time.Hour
)

// micros is the wall clock in µs since 1970 if it may make tokens, else 0; store
// is the servers' own time, 0 if it is not known. Servers that never say it leave
// the wall clock without a witness.
func (w *wire) micros(wall time.Time) (own, store int64) {
	t := w.told.Load()
	if wall.UnixMicro() < driver.MaxClockToken {
		own = wall.UnixMicro()
	}
	if t == nil {
		if w.silent.Load() {
			return own, 0
		}
		return 0, 0
	}
	since := w.clock.Now().Sub(t.at)
	if since > toldFor {
		return 0, 0
	}
	now := t.date.Add(since)
	if d := wall.Sub(now); d > skewed || d < -skewed {
		own = 0
	}
	return own, now.UnixMicro()
}
