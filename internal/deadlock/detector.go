package deadlock

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// tick is how often a Detector looks whether somebody waits here.
	tick = 200 * time.Millisecond
	// patience is how long an acquire waits before it is a reason to look.
	patience = 200 * time.Millisecond
	// pace is the pause between two looks of a whole fleet.
	pace = 300 * time.Millisecond
	// share bounds what looking costs: a look is followed by a pause of so many
	// times its length.
	share = 9
	// longestGap is the longest pause between two looks of one Detector that has a
	// reason to look.
	longestGap = time.Minute
	// settle is the pause between the two readings of a look.
	settle = 100 * time.Millisecond
)

// Local is a store at which acquires of this process wait; *backend.Store is one.
type Local interface {
	Store
	Waits(least time.Duration) backend.Waits
	Refuse(lockID, requestID string, err *backend.DeadlockError) bool
}

// Options configure a Detector.
type Options struct {
	// Stores are those that there are now.
	Stores func() []Local
	// Policy says whether to look, and whether the victim of a deadlock is to be
	// refused if it waits here.
	Policy func() (detect, resolve bool)
	// Looked is told what each look found, and which deadlocks it is the first to
	// show.
	Looked func(f *Finding, fresh []Deadlock)
	// Refused is told of each victim that was refused here.
	Refused func(d *Deadlock)
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// Detector looks for deadlocks while somebody who names its owner waits in this
// process. Each deadlock has such a waiter, so that each is seen by some sidecar
// of a fleet; of many sidecars with waiters each looks the more rarely, so that
// all together look about as often as one alone.
type Detector struct {
	o Options

	// looking is held by the one look at a time.
	looking sync.Mutex

	mu sync.Mutex
	// latest is what the latest look found, at is when that began.
	latest *Finding
	at     time.Time
	// told are those that were told, which they are once.
	told told
}

// New returns a Detector, which looks when it is run.
func New(o Options) *Detector {
	o.Logger = driver.Logger(o.Logger)
	return &Detector{o: o, latest: &Finding{}}
}

// Latest is what the latest look found, and when that began; the time is zero if there was
// none.
func (d *Detector) Latest() (*Finding, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.latest, d.at
}

// Look looks now, or shares the next look of another caller. It is the finding and
// when the look began; Latest may be of another look by then, or of none.
func (d *Detector) Look(ctx context.Context) (*Finding, time.Time) {
	asked := time.Now()
	d.looking.Lock()
	defer d.looking.Unlock()
	if f, at := d.Latest(); at.After(asked) {
		return f, at
	}
	begun := time.Now()
	locals := d.o.Stores()
	stores := make([]Store, len(locals))
	for i, s := range locals {
		stores[i] = s
	}
	f := Find(ctx, stores, settle)
	if ctx.Err() != nil {
		return f, begun
	}
	d.mu.Lock()
	d.latest, d.at = f, begun
	fresh := d.told.fresh(f.Deadlocks)
	d.mu.Unlock()
	d.o.Looked(f, fresh)
	if _, resolve := d.o.Policy(); resolve {
		d.resolve(locals, f)
	}
	return f, begun
}

// resolve refuses the victims that wait here. Two stores may be one, as when a
// configuration has replaced a backend at which somebody still waits: the place is
// seen in both, and its acquire waits at either.
func (d *Detector) resolve(stores []Local, f *Finding) {
	for i := range f.Deadlocks {
		one := &f.Deadlocks[i]
		v := &one.victim
		if slices.ContainsFunc(stores, func(s Local) bool {
			return s.Refuse(v.at.lock, v.place.request, &backend.DeadlockError{Cycle: one.Waits})
		}) {
			d.o.Refused(one)
		}
	}
}

// Run looks, as often as there is a reason to, until ctx ends.
func (d *Detector) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	var next time.Time // zero: nobody waits
	failing := false
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
		w := d.waits()
		detect, _ := d.o.Policy()
		switch now := time.Now(); {
		case w.Named == 0 || !detect:
			next = time.Time{}
			d.forget()
			continue
		case next.IsZero():
			next = now.Add(d.gap(w, 0, 0))
		}
		if time.Now().Before(next) {
			continue
		}
		start := time.Now()
		f, _ := d.Look(ctx)
		if now := len(f.Failed) > 0 && !errors.Is(f.Err, context.Canceled); now != failing {
			if failing = now; failing {
				d.o.Logger.Warn("deadlocks cannot be looked for in all stores", driver.LogError, f.Err)
			}
		}
		next = time.Now().Add(d.gap(w, time.Since(start), f.Waiters))
	}
}

func (d *Detector) waits() (sum backend.Waits) {
	for _, s := range d.o.Stores() {
		w := s.Waits(patience)
		sum.Named += w.Named
		sum.Queue = max(sum.Queue, w.Queue)
	}
	return sum
}

// forget ends what was found: nobody looks here who could tell when it ends. What was
// told stays known: who asks may see it again.
func (d *Detector) forget() {
	d.mu.Lock()
	had := len(d.latest.Deadlocks) > 0
	if had {
		d.latest = &Finding{}
	}
	d.mu.Unlock()
	if had {
		d.o.Looked(&Finding{}, nil)
	}
}

// gap is the pause before the next look: this process's part of the fleet's
// looks is that of its waiters among all.
func (d *Detector) gap(w backend.Waits, took time.Duration, waiters int) time.Duration {
	whole := max(pace, share*took)
	fleet := max(waiters, w.Queue, w.Named)
	gap := min(time.Duration(float64(whole)*float64(fleet)/float64(w.Named)), longestGap)
	if took == 0 { // the first look: those who began to wait together do not look together
		return time.Duration(rand.Int64N(int64(gap) + 1))
	}
	return gap/2 + time.Duration(rand.Int64N(int64(gap)/2+1))
}
