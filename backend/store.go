package backend

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// placePolls is how many polls a place in the queue outlives: two may be lost.
const placePolls = 3

// Options configure a Store. The zero value is usable.
type Options struct {
	// Name is the backend's, for metrics and status; empty means the driver's.
	Name string
	// Clock counts valid-until; it must be the driver's. nil means
	// driver.BootClock.
	Clock driver.Clock
	// MinTTL is the smallest TTL that a request may ask for; 0 means MinTTL.
	MinTTL time.Duration
	// Limits bound the fields of a request.
	Limits Limits
	// Observer is told what happened; nil means nobody. A store without one leaves
	// the ends of leases to the next store that has one: it neither looks for them
	// nor says that they were told.
	Observer Observer
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// Store is the portable store of locks. It is safe for concurrent use.
type Store struct {
	d        driver.Driver
	o        Options
	caps     driver.Capabilities
	waiters  waiters
	queued   atomic.Int64
	undos    undos
	ends     ends
	revoked  atomic.Pointer[func(lockID string, token int64)]
	stop     context.CancelFunc
	stopped  context.Context
	watching sync.WaitGroup
}

// New returns a store over d, which it owns from now on.
func New(d driver.Driver, o Options) *Store {
	s := &Store{d: d, o: o, caps: d.Capabilities()}
	if s.o.Name == "" {
		s.o.Name = s.caps.Name
	}
	if s.o.Clock == nil {
		s.o.Clock = driver.BootClock
	}
	if s.o.MinTTL == 0 {
		s.o.MinTTL = MinTTL
	}
	s.o.Limits = s.o.Limits.withDefaults()
	// Nobody else comes for what ends in this process's own memory.
	tells := o.Observer != nil || s.caps.Durability == driver.DurabilityProcess
	if s.o.Observer == nil {
		s.o.Observer = nobody{}
	}
	s.o.Logger = driver.Logger(s.o.Logger)
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.undos.start(s)
	if s.caps.Watch {
		s.watching.Go(func() { s.watch(d.Watch) })
	} else if w, ok := driver.As[driver.LocalWatcher](d); ok {
		s.watching.Go(func() { s.watch(w.WatchLocal) })
	}
	if w, ok := driver.As[driver.Sweeper](d); ok && tells {
		s.ends.kept = true
		s.watching.Go(func() { s.sweep(w) })
	}
	return s
}

// Name is the backend's.
func (s *Store) Name() string { return s.o.Name }

// Driver is what the store stands on.
func (s *Store) Driver() driver.Driver { return s.d }

// Capabilities are the driver's.
func (s *Store) Capabilities() driver.Capabilities { return s.caps }

// Waiting is the number of acquires that wait in this process.
func (s *Store) Waiting() int { return int(s.queued.Load()) }

// EachWait tells of each acquire that waits in this process for which lock it does
// and for how long it has: one that was repeated over a new connection since its
// first attempt.
func (s *Store) EachWait(tell func(lockID string, waited time.Duration)) {
	if s.Waiting() == 0 {
		return
	}
	for _, p := range s.waiters.all() {
		tell(p.lockID, time.Since(p.since))
	}
}

// Ping reports whether the store answers.
func (s *Store) Ping(ctx context.Context) error { return s.d.Ping(ctx) }

// OnRevoked sets what is called when the store hints that a lease of this
// process was revoked or taken over. It is set before the first acquire.
func (s *Store) OnRevoked(f func(lockID string, token int64)) { s.revoked.Store(&f) }

// Close ends the store. Acquires that wait fail with driver.ErrClosed and give
// up their places, for which it waits a bounded time; then it closes the driver.
func (s *Store) Close() error {
	s.stop()
	s.watching.Wait()
	s.undos.finish()
	return s.d.Close()
}

// Renew prolongs a lease.
func (s *Store) Renew(ctx context.Context, req *RenewRequest) (*Lease, error) {
	return s.prolong(ctx, "renew", req, s.d.Renew)
}

// Adopt attaches the caller to a lease that stands.
func (s *Store) Adopt(ctx context.Context, req *RenewRequest) (*Lease, error) {
	sent := time.Now()
	l, err := s.prolong(ctx, "adopt", req, s.d.Adopt)
	if err == nil {
		s.o.Observer.Happened(Event{
			Kind: Adopted, LockID: l.LockID, OwnerID: l.OwnerID, Token: l.Token, Shared: l.Shared, HoldCount: len(l.Holds), Sent: sent, TTL: l.TTL,
			ValidUntil: l.ValidUntil, ExpiresAt: l.ExpiresAt, Attach: l.Attach,
		})
	}
	return l, err
}

func (s *Store) prolong(ctx context.Context, op string, req *RenewRequest, call func(context.Context, *driver.RenewRequest) (*driver.Lease, error)) (*Lease, error) {
	r, err := s.renewal(req)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", op, req.LockID, err)
	}
	l, err := call(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", op, req.LockID, err)
	}
	return s.lease(l, req.LeaseID, ""), nil
}

func (s *Store) renewal(req *RenewRequest) (*driver.RenewRequest, error) {
	if err := ValidLockID(req.LockID); err != nil {
		return nil, err
	}
	ttl, err := s.validTTL(req.TTL)
	if err != nil {
		return nil, err
	}
	ref, err := req.ref()
	return &driver.RenewRequest{LeaseRef: ref, TTL: ttl}, err
}

func (r LeaseRef) ref() (driver.LeaseRef, error) {
	if r.LeaseID == "" {
		return driver.LeaseRef{}, &InvalidError{"lease_id", "is empty", "the lease_id that the acquire returned"}
	}
	if r.Token <= 0 {
		return driver.LeaseRef{}, &InvalidError{"fencing_token", fmt.Sprintf("is %d", r.Token), "the fencing_token that the acquire returned"}
	}
	return driver.LeaseRef{LockID: r.LockID, Key: driver.KeyOf(r.LeaseID), Token: r.Token, Attach: r.Attach}, nil
}

// RenewMany renews leases in as few round trips as the driver can. The results
// stand in the order of the requests.
func (s *Store) RenewMany(ctx context.Context, reqs []RenewRequest) []RenewResult {
	results := make([]RenewResult, len(reqs))
	batch := make([]driver.RenewRequest, 0, len(reqs))
	from := make([]int, 0, len(reqs))
	for i := range reqs {
		r, err := s.renewal(&reqs[i])
		if err != nil {
			results[i].Err = fmt.Errorf("renew %q: %w", reqs[i].LockID, err)
			continue
		}
		batch, from = append(batch, *r), append(from, i)
	}
	for n, res := range driver.RenewMany(ctx, s.d, batch) {
		i := from[n]
		if res.Err != nil {
			results[i].Err = fmt.Errorf("renew %q: %w", reqs[i].LockID, res.Err)
			continue
		}
		results[i].Lease = s.lease(res.Lease, reqs[i].LeaseID, "")
	}
	return results
}

// lease is the driver's answer with the secret and the time that it proves.
func (s *Store) lease(l *driver.Lease, leaseID, requestID string) *Lease {
	if requestID == "" && len(l.Holds) > 0 {
		requestID = l.Holds[0]
	}
	return &Lease{Lease: *l, LeaseID: leaseID, RequestID: requestID, ValidUntil: ValidUntil(l)}
}

// Release ends one hold, or, given a request id alone, undoes the acquire.
func (s *Store) Release(ctx context.Context, req *ReleaseRequest) (*driver.ReleaseResult, error) {
	if req.LeaseID == "" && req.Token == 0 && req.RequestID != "" {
		return &driver.ReleaseResult{}, s.Leave(ctx, req.LockID, req.RequestID)
	}
	r, err := req.release()
	if err != nil {
		return nil, fmt.Errorf("release %q: %w", req.LockID, err)
	}
	sent := time.Now()
	res, err := s.d.Release(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("release %q: %w", req.LockID, err)
	}
	s.released(req, res, sent)
	return res, nil
}

// ReleaseAsync is Release without a goroutine that waits. done is called once
// and must not block.
func (s *Store) ReleaseAsync(ctx context.Context, req *ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	r, err := req.release()
	if err != nil {
		done(nil, fmt.Errorf("release %q: %w", req.LockID, err))
		return
	}
	sent := time.Now()
	driver.ReleaseAsync(ctx, s.d, r, func(res *driver.ReleaseResult, err error) {
		if err != nil {
			done(nil, fmt.Errorf("release %q: %w", req.LockID, err))
			return
		}
		s.released(req, res, sent)
		done(res, nil)
	})
}

func (s *Store) released(req *ReleaseRequest, res *driver.ReleaseResult, sent time.Time) {
	if res.OwnerID == "" {
		sent = time.Time{} // a repeat: it was released before
	}
	s.o.Observer.Happened(Event{
		Kind: Released, LockID: req.LockID, OwnerID: res.OwnerID, RequestID: req.RequestID, Token: req.Token,
		Shared: res.Shared, HoldCount: res.HoldCount, Sent: sent,
	})
}

func (r *ReleaseRequest) release() (*driver.ReleaseRequest, error) {
	if err := ValidLockID(r.LockID); err != nil {
		return nil, err
	}
	if err := validText("request_id", r.RequestID, MaxRequestID); err != nil {
		return nil, err
	}
	ref, err := r.ref()
	return &driver.ReleaseRequest{LeaseRef: ref, RequestID: r.RequestID}, err
}

// Leave drops a place, or a grant that nobody received.
func (s *Store) Leave(ctx context.Context, lockID, requestID string) error {
	err := ValidLockID(lockID)
	if err == nil {
		err = validText("request_id", requestID, MaxRequestID)
	}
	if err == nil {
		err = s.d.Leave(ctx, &driver.LeaveRequest{LockID: lockID, RequestID: requestID})
	}
	if err != nil {
		return fmt.Errorf("leave %q: %w", lockID, err)
	}
	s.o.Observer.Happened(Event{Kind: Abandoned, LockID: lockID, RequestID: requestID, Reason: ReasonUndone})
	return nil
}

// Undo gives back, in the background, a grant whose caller has gone. What a
// repeat of its request got since stays.
func (s *Store) Undo(l *Lease) {
	s.undos.add(&driver.LeaveRequest{LockID: l.LockID, RequestID: l.RequestID, Key: driver.KeyOf(l.LeaseID)})
	s.o.Observer.Happened(Event{
		Kind: Abandoned, LockID: l.LockID, OwnerID: l.OwnerID, RequestID: l.RequestID, Shared: l.Shared, Reason: ReasonLeft,
	})
}

// Get reads one lock.
func (s *Store) Get(ctx context.Context, lockID string) (*driver.Lock, error) {
	if err := ValidLockID(lockID); err != nil {
		return nil, fmt.Errorf("get %q: %w", lockID, err)
	}
	l, err := s.d.Inspect(ctx, lockID)
	if err != nil {
		return nil, fmt.Errorf("get %q: %w", lockID, err)
	}
	l.Backend = s.o.Name
	return l, nil
}

// List reads one page of the locks that are held or waited for. PageSize 0
// means DefaultPageSize, or the limit if that is less.
func (s *Store) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	r := *req
	if r.PageSize == 0 {
		r.PageSize = min(DefaultPageSize, s.o.Limits.PageSize)
	}
	if r.PageSize < 0 || r.PageSize > s.o.Limits.PageSize {
		return nil, fmt.Errorf("list: %w", &InvalidError{"page_size", fmt.Sprintf("is %d", r.PageSize), fmt.Sprintf("1 to %d", s.o.Limits.PageSize)})
	}
	if len(r.Prefix) > MaxLockID {
		return nil, fmt.Errorf("list: %w", &InvalidError{"prefix", fmt.Sprintf("has %d bytes", len(r.Prefix)), fmt.Sprintf("at most %d bytes", MaxLockID)})
	}
	page, err := s.d.List(ctx, &r)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	for i := range page.Locks {
		page.Locks[i].Backend = s.o.Name
	}
	return page, nil
}

// ForceRelease revokes the lease that has the token, or ends it at once.
func (s *Store) ForceRelease(ctx context.Context, req *ForceReleaseRequest) (*ForceReleaseResult, error) {
	wrap := func(err error) error { return fmt.Errorf("force-release %q: %w", req.LockID, err) }
	if err := ValidLockID(req.LockID); err != nil {
		return nil, wrap(err)
	}
	if req.Token <= 0 {
		return nil, wrap(&InvalidError{"fencing_token", fmt.Sprintf("is %d", req.Token), "the token of the lease to revoke, as Get shows it"})
	}
	sent := time.Now()
	evict := &driver.EvictRequest{LockID: req.LockID, Token: req.Token, Cause: driver.CauseForced}
	if !req.Immediate {
		h, err := s.d.Revoke(ctx, evict)
		if err != nil {
			return nil, wrap(err)
		}
		s.o.Observer.Happened(Event{
			Kind: Revoked, LockID: req.LockID, OwnerID: h.OwnerID, Token: h.Token, Shared: h.Shared,
			Cause: driver.CauseForced, Reason: req.Reason, By: req.By, Sent: sent,
		})
		return &ForceReleaseResult{Holder: *h}, nil
	}
	e, err := s.d.Evict(ctx, evict)
	if err != nil {
		return nil, wrap(err)
	}
	s.tell(Event{Reason: req.Reason, By: req.By, Sent: sent}, *e)
	return &ForceReleaseResult{Holder: driver.Holder{OwnerID: e.OwnerID, Token: e.Token, Shared: e.Shared}, Ended: true}, nil
}
