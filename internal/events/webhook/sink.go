package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/events"
)

// The defaults of Options.
const (
	DefaultTimeout  = 5 * time.Second
	DefaultGiveUp   = time.Hour
	DefaultParallel = 4
)

// laneSize bounds the events that were taken from the log for a lane.
const laneSize = 32

// Options configure a Sink.
type Options struct {
	// Name is the sink's, for logs.
	Name string
	// URL is the consumer's, without credentials.
	URL string
	// CAFile has the certificates that may vouch for the consumer, CertFile and
	// KeyFile the sidecar's own, TokenFile a bearer token. Empty ones are not used.
	CAFile, CertFile, KeyFile, TokenFile string
	// Timeout bounds an attempt, GiveUp the attempts for one event, after which
	// it is dropped, as it is at once if the consumer refuses it for good; 0 means the
	// defaults.
	Timeout, GiveUp time.Duration
	// Parallel is how many events are on their way at a time, those of one lock
	// one after the other; 0 means DefaultParallel.
	Parallel int
	// Source is the source of the events; empty means that of the backend.
	Source string
	// Sidecar is this sidecar's name.
	Sidecar string
	Counter events.Counter
	Logger  *slog.Logger
}

// Sink posts the events.
type Sink struct {
	o      Options
	client *http.Client
	done   progress
	// failing: the latest attempt failed; refusing: no event was taken since one was
	// refused.
	failing, refusing atomic.Bool
	// cut are the events on their way that were not delivered by the end.
	cut atomic.Uint64
	// followed: another sink goes on where this one ends.
	followed atomic.Bool
}

// New returns a sink, or says what is wrong with its options. Nothing is
// connected to.
func New(o Options) (*Sink, error) {
	o.Timeout, o.GiveUp, o.Parallel = cmp.Or(o.Timeout, DefaultTimeout), cmp.Or(o.GiveUp, DefaultGiveUp), cmp.Or(o.Parallel, DefaultParallel)
	o.Logger = driver.Logger(o.Logger)
	if err := CheckURL(o.URL, o.TokenFile != ""); err != nil {
		return nil, fmt.Errorf("webhook %q: %w", o.Name, err)
	}
	s := &Sink{o: o}
	var err error
	if s.client, err = newClient(&s.o); err != nil {
		return nil, fmt.Errorf("webhook %q: %w", o.Name, err)
	}
	return s, nil
}

// Done is the number up to which every event was delivered or given up.
func (s *Sink) Done() uint64 { return s.done.upTo() }

// HandOver says that another sink goes on after Done, once this one has ended:
// what it has not delivered is not lost.
func (s *Sink) HandOver() { s.followed.Store(true) }

// undelivered counts what is left at the end.
func (s *Sink) undelivered(n uint64) {
	if n > 0 && !s.followed.Load() {
		s.o.Counter.Dropped(n)
		s.o.Logger.Warn("events are not delivered any more", driver.LogName, s.o.Name, driver.LogCount, n)
	}
}

// Run posts the events after the number until ctx ends; then what there is by
// then, unless that takes longer than last.
func (s *Sink) Run(ctx, last context.Context, l *events.Log, after uint64) {
	defer s.client.CloseIdleConnections()
	s.done.begin(after)
	sub, err := l.Subscribe("", l.Run()+"-"+strconv.FormatUint(after, 10))
	if err != nil {
		s.o.Logger.Error("the webhook cannot begin", driver.LogName, s.o.Name, driver.LogError, err)
		return
	}
	lanes := make([]chan events.Record, s.o.Parallel)
	var working sync.WaitGroup
	for i := range lanes {
		lanes[i] = make(chan events.Record, laneSize)
		working.Go(func() {
			for r := range lanes[i] {
				if s.deliver(last, &r) {
					s.done.done(r.Seq)
				}
			}
		})
	}
	read, left := after, uint64(0)
	for ctx.Err() == nil || read < l.Last() && last.Err() == nil {
		records, err := sub.Records(ctx)
		if err != nil {
			continue // ctx has ended
		}
		for i := range records {
			r := &records[i]
			if last.Err() != nil {
				break
			}
			if r.Type == events.TypeMissed {
				s.o.Counter.Dropped(r.Missed)
				s.o.Logger.Error("events were dropped: the consumer did not take them in time", driver.LogName, s.o.Name, driver.LogCount, r.Missed)
			}
			s.done.take(r.Seq)
			select {
			case lanes[maphash.String(seed, r.LockID)%uint64(len(lanes))] <- *r:
			case <-last.Done():
				left++
			}
			read = r.Seq
		}
	}
	for _, lane := range lanes {
		close(lane)
	}
	working.Wait()
	s.undelivered(left + s.cut.Load() + l.Last() - read)
}

var seed = maphash.MakeSeed()

// deliver posts an event until it is taken, refused or given up; it is false if last ended
// before.
func (s *Sink) deliver(last context.Context, r *events.Record) (done bool) {
	body, err := s.encode(r)
	if err != nil { // it is made of texts and numbers
		s.o.Logger.Error("an event cannot be told", driver.LogName, s.o.Name, driver.LogError, err)
		return true
	}
	// Full jitter: each pause is anything from nothing to twice the interval.
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithRandomizationFactor(1), backoff.WithMultiplier(2),
		backoff.WithMaxInterval(events.RetryEvery/2), backoff.WithMaxElapsedTime(s.o.GiveUp),
	)
	first := true
	err = backoff.Retry(func() error {
		if !first {
			s.o.Counter.Retried(1)
		}
		first = false
		err := s.post(last, body)
		if errors.Is(err, errRefused) {
			return backoff.Permanent(err)
		}
		if last.Err() == nil && s.failing.Swap(err != nil) != (err != nil) {
			if err != nil {
				s.o.Logger.Warn("the consumer does not take events, they are kept and tried again", driver.LogName, s.o.Name, driver.LogError, err)
			} else {
				s.o.Logger.Info("the consumer takes events", driver.LogName, s.o.Name)
			}
		}
		return err
	}, backoff.WithContext(b, last))
	switch {
	case err != nil && last.Err() != nil:
		if r.Type != events.TypeMissed { // what is missing was counted
			s.cut.Add(1)
		}
		return false
	case r.Type == events.TypeMissed:
	case err == nil:
		s.refusing.Store(false)
		s.o.Counter.Delivered(1)
	case errors.Is(err, errRefused):
		s.o.Counter.Dropped(1)
		if !s.refusing.Swap(true) { // it may refuse all of them
			s.o.Logger.Error("an event was dropped, and so is each that is refused", driver.LogName, s.o.Name, driver.LogLock, r.LockID, driver.LogError, err)
		}
	default:
		s.o.Counter.Dropped(1)
		s.o.Logger.Error("an event was given up", driver.LogName, s.o.Name, driver.LogLock, r.LockID, driver.LogError, err)
	}
	return true
}
