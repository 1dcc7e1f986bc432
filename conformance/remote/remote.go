// Package remote makes a sidecar's socket look like a driver, so that the
// conformance suite can be run against the whole of a sidecar.
//
// What the API hides (attach numbers, the choice of the lease's key, eviction
// as such, places that run out) cannot be tested this way: [Harness] names it.
package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Harness reaches a sidecar at an endpoint such as unix:///path.
func Harness(endpoint string) conformance.Harness {
	const hidden = "the API does not show it"
	return conformance.Harness{
		Endpoint: endpoint,
		Open:     func(ctx context.Context) (driver.Driver, error) { return Open(ctx, endpoint) },
		Lacks: map[conformance.Need]string{
			conformance.NeedAttach: hidden, conformance.NeedKeys: "the sidecar makes the lease ids",
			conformance.NeedEvict: hidden, conformance.NeedWatch: hidden,
			conformance.NeedSweep:  "the sidecar sweeps by itself",
			conformance.NeedPlaces: "the sidecar keeps the places of waiting calls alive",
		},
	}
}

// Driver is a connection to a sidecar.
type Driver struct {
	conn  *grpc.ClientConn
	locks lockpb.LockServiceClient
	admin lockpb.AdminServiceClient
	caps  driver.Capabilities
	ctx   context.Context
	stop  context.CancelFunc

	mu      sync.Mutex
	closed  bool
	servers []driver.Server
	leases  map[driver.Key]string // the sidecar's lease id for the suite's key
	waiting map[string]*call
	calls   sync.WaitGroup
}

// call is a blocking acquire in flight, which stands for a place in the queue.
type call struct {
	cancel context.CancelFunc
	done   chan struct{}
	lease  *lockpb.Lease
	sent   driver.Instant
	err    error
}

var (
	_ driver.Driver    = (*Driver)(nil)
	_ driver.Describer = (*Driver)(nil)
)

// Open connects to a sidecar and asks for its backend's capabilities.
func Open(ctx context.Context, endpoint string) (*Driver, error) {
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	d := &Driver{
		conn: conn, locks: lockpb.NewLockServiceClient(conn), admin: lockpb.NewAdminServiceClient(conn),
		leases: make(map[driver.Key]string), waiting: make(map[string]*call),
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	s, err := d.admin.GetStatus(ctx, &lockpb.GetStatusRequest{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("endpoint %q: %w", endpoint, toSentinel(err)), d.Close())
	}
	if len(s.GetBackends()) == 0 {
		return nil, errors.Join(fmt.Errorf("endpoint %q: %w: it has no backend", endpoint, driver.ErrUnavailable), d.Close())
	}
	b := s.GetBackends()[0]
	c := b.GetCapabilities()
	d.caps = driver.Capabilities{
		Name: b.GetDriver() + " through a sidecar", MinTTL: c.GetMinTtl().AsDuration(), MaxTTL: c.GetMaxTtl().AsDuration(),
		Lateness: c.GetLateness().AsDuration(), Poll: c.GetPoll().AsDuration(), Shared: c.GetShared(), MaxWaiters: int(c.GetMaxWaiters()),
		Watch: c.GetWatch(), ExpiryAtOnce: c.GetExpiryAtOnce(), ExpiryEvents: c.GetExpiryEvents(), EditQueue: c.GetEditQueue(), Clock: driver.ClockSource(c.GetClock()),
		Durability: driver.Durability(c.GetDurability()), Retention: c.GetRetention().AsDuration(),
	}
	return d, nil
}

func (d *Driver) check(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return driver.ErrClosed
	}
	return ctx.Err()
}

// Acquire tries once, or, to queue, starts a call that waits and looks after it.
func (d *Driver) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	req := &lockpb.AcquireRequest{
		LockId: r.LockID, OwnerId: r.OwnerID, RequestId: r.RequestID, Ttl: durationpb.New(r.TTL), Shared: r.Shared,
		Reentrant: r.Reentrant, Priority: uint32(r.Priority), TokenFloor: r.TokenFloor, Metadata: r.Metadata, //nolint:gosec // 0 to 9
	}
	if !r.Enqueue {
		req.Wait = durationpb.New(0)
		sent := driver.BootClock.Now()
		l, err := d.locks.Acquire(ctx, req)
		if err != nil {
			return nil, d.sentinel(err)
		}
		return d.granted(r, l, sent), nil
	}
	d.mu.Lock()
	c := d.waiting[r.RequestID]
	if c == nil {
		c = &call{done: make(chan struct{}), sent: driver.BootClock.Now()}
		var cctx context.Context
		cctx, c.cancel = context.WithCancel(d.ctx)
		d.waiting[r.RequestID] = c
		d.calls.Go(func() {
			defer close(c.done)
			c.lease, c.err = d.locks.Acquire(cctx, req)
		})
	}
	d.mu.Unlock()
	for {
		select {
		case <-c.done:
			d.forget(r.RequestID)
			if c.err != nil {
				return nil, d.sentinel(c.err)
			}
			return d.granted(r, c.lease, c.sent), nil
		default:
		}
		lock, err := d.Inspect(ctx, r.LockID)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(lock.Waiters, func(w driver.Waiter) bool { return w.OwnerID == r.OwnerID }); i >= 0 {
			return &driver.AcquireResult{Position: i + 1, QueueLength: len(lock.Waiters), RetryAfter: 10 * time.Millisecond}, nil
		}
		// On its way into the queue, or just granted.
		select {
		case <-c.done:
		case <-time.After(settle):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// settle is the pause before a call that is neither waiting nor answered is
// looked at again.
const settle = 2 * time.Millisecond

func (d *Driver) forget(requestID string) *call {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.waiting[requestID]
	delete(d.waiting, requestID)
	return c
}

func (d *Driver) granted(r *driver.AcquireRequest, l *lockpb.Lease, sent driver.Instant) *driver.AcquireResult {
	d.mu.Lock()
	d.leases[r.Key] = l.GetLeaseId()
	d.mu.Unlock()
	return &driver.AcquireResult{Lease: lease(l, max(sent, driver.Instant(l.GetValidUntilBoottimeNs()).Add(-l.GetTtl().AsDuration())))}
}

// lease is the API's lease as a driver's. Its end is what the holder may rely
// on, which is a little before the store's.
func lease(l *lockpb.Lease, sent driver.Instant) *driver.Lease {
	out := &driver.Lease{
		LockID: l.GetLockId(), OwnerID: l.GetOwnerId(), Token: l.GetFencingToken(), Shared: l.GetShared(), TTL: l.GetTtl().AsDuration(),
		Remaining: driver.Instant(l.GetValidUntilBoottimeNs()).Sub(sent), Origin: sent, ExpiresAt: l.GetExpiresAt().AsTime(), Metadata: l.GetMetadata(),
	}
	for i := range l.GetHoldCount() {
		out.Holds = append(out.Holds, l.GetRequestId()+map[bool]string{false: "", true: strconv.Itoa(int(i))}[i > 0])
	}
	return out
}

func (d *Driver) leaseID(k driver.Key) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id, ok := d.leases[k]; ok {
		return id
	}
	return "not-a-lease-" + string(k[:16])
}

// Renew prolongs a lease.
func (d *Driver) Renew(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	sent := driver.BootClock.Now()
	l, err := d.locks.Renew(ctx, &lockpb.RenewRequest{LockId: r.LockID, LeaseId: d.leaseID(r.Key), FencingToken: r.Token, Ttl: durationpb.New(r.TTL)})
	if err != nil {
		return nil, d.sentinel(err)
	}
	out := lease(l, sent)
	// The margin of valid-until is the sidecar's: the store gave this much.
	out.Remaining = min(out.Remaining+out.TTL/50+100*time.Millisecond, max(out.TTL, out.Remaining))
	return out, nil
}

// Release ends one hold.
func (d *Driver) Release(ctx context.Context, r *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	res, err := d.locks.Release(ctx, &lockpb.ReleaseRequest{LockId: r.LockID, LeaseId: d.leaseID(r.Key), FencingToken: r.Token, RequestId: r.RequestID})
	if err != nil {
		return nil, d.sentinel(err)
	}
	return &driver.ReleaseResult{HoldCount: int(res.GetHoldCount())}, nil
}

// Leave ends a call that waits, and undoes its grant.
func (d *Driver) Leave(ctx context.Context, r *driver.LeaveRequest) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	if c := d.forget(r.RequestID); c != nil {
		c.cancel()
		<-c.done
	}
	_, err := d.locks.Release(ctx, &lockpb.ReleaseRequest{LockId: r.LockID, RequestId: r.RequestID})
	return d.sentinel(err)
}

// Adopt needs a stream, and shows no attach number: not supported.
func (d *Driver) Adopt(context.Context, *driver.RenewRequest) (*driver.Lease, error) {
	return nil, driver.ErrUnsupported
}

// Evict is not supported as such; Revoke is ForceRelease.
func (d *Driver) Evict(context.Context, *driver.EvictRequest) (*driver.Ended, error) {
	return nil, driver.ErrUnsupported
}

// Revoke revokes a lease.
func (d *Driver) Revoke(ctx context.Context, r *driver.EvictRequest) (*driver.Holder, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	res, err := d.admin.ForceRelease(ctx, &lockpb.ForceReleaseRequest{LockId: r.LockID, FencingToken: r.Token, Reason: "conformance"})
	if err != nil {
		return nil, d.sentinel(err)
	}
	h := holder(res.GetHolder())
	return &h, nil
}

// EditPlace is CancelWaiter or Reprioritize.
func (d *Driver) EditPlace(ctx context.Context, r *driver.EditPlaceRequest) (*driver.Waiter, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	if r.Drop {
		res, err := d.admin.CancelWaiter(ctx, &lockpb.CancelWaiterRequest{LockId: r.LockID, Ticket: r.Ticket, Reason: "conformance"})
		if err != nil {
			return nil, d.sentinel(err)
		}
		return waiter(res.GetWaiter()), nil
	}
	move := &lockpb.ReprioritizeRequest{LockId: r.LockID, Ticket: r.Ticket, Reason: "conformance"}
	if move.First = r.Priority == driver.FirstPriority; !move.First {
		move.Priority = uint32(r.Priority) //nolint:gosec // 0 to 9
	}
	res, err := d.admin.Reprioritize(ctx, move)
	if err != nil {
		return nil, d.sentinel(err)
	}
	return waiter(res.GetWaiter()), nil
}

// Inspect reads one lock.
func (d *Driver) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	l, err := d.locks.Get(ctx, &lockpb.GetRequest{LockId: lockID})
	if err != nil {
		return nil, d.sentinel(err)
	}
	out := lock(l)
	return &out, nil
}

// List reads one page.
func (d *Driver) List(ctx context.Context, r *driver.ListRequest) (*driver.ListPage, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	res, err := d.admin.List(ctx, &lockpb.ListRequest{Prefix: r.Prefix, Contended: r.Contended, PageSize: uint32(r.PageSize), PageToken: r.PageToken}) //nolint:gosec // a page's size
	if err != nil {
		return nil, d.sentinel(err)
	}
	page := &driver.ListPage{NextPageToken: res.GetNextPageToken()}
	for _, l := range res.GetLocks() {
		page.Locks = append(page.Locks, lock(l))
	}
	return page, nil
}

func lock(l *lockpb.Lock) driver.Lock {
	out := driver.Lock{LockID: l.GetLockId(), Token: l.GetFencingToken()}
	for _, h := range l.GetHolders() {
		out.Holders = append(out.Holders, holder(h))
	}
	for _, w := range l.GetWaiters() {
		out.Waiters = append(out.Waiters, *waiter(w))
	}
	return out
}

func waiter(w *lockpb.Waiter) *driver.Waiter {
	return &driver.Waiter{OwnerID: w.GetOwnerId(), Position: int(w.GetPosition()), Priority: int(w.GetPriority()), Shared: w.GetShared(), Ticket: w.GetTicket()}
}

func holder(h *lockpb.Holder) driver.Holder {
	return driver.Holder{
		OwnerID: h.GetOwnerId(), Token: h.GetFencingToken(), Shared: h.GetShared(), HoldCount: int(h.GetHoldCount()), TTL: h.GetTtl().AsDuration(),
		Remaining: h.GetRemaining().AsDuration(), ExpiresAt: h.GetExpiresAt().AsTime(), Revoked: h.GetRevoked(), Metadata: h.GetMetadata(),
	}
}

// Watch is not supported: the sidecar keeps the hints.
func (d *Driver) Watch(context.Context, func(driver.Hint)) error { return driver.ErrUnsupported }

// Ping asks for the status.
func (d *Driver) Ping(ctx context.Context) error {
	s, err := d.admin.GetStatus(ctx, &lockpb.GetStatusRequest{})
	if err != nil {
		return d.sentinel(err)
	}
	b := s.GetBackends()[0]
	servers := []driver.Server{{Role: "sidecar", Version: "locksidecar " + s.GetBuild().GetVersion()}}
	for _, one := range b.GetServers() {
		servers = append(servers, driver.Server{Role: one.GetRole(), Version: one.GetVersion()})
	}
	d.mu.Lock()
	d.servers = servers
	d.mu.Unlock()
	if !b.GetServing() {
		return fmt.Errorf("%w: %s", driver.ErrUnavailable, b.GetReason())
	}
	return nil
}

// Describe tells what the sidecar said of itself and of its store's servers when it
// was last pinged.
func (d *Driver) Describe() []driver.Server {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.servers
}

// Capabilities are those that the sidecar tells.
func (d *Driver) Capabilities() driver.Capabilities { return d.caps }

// Close ends the connection and the calls that wait.
func (d *Driver) Close() error {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	d.mu.Unlock()
	if was {
		return nil
	}
	d.stop()
	d.calls.Wait()
	return d.conn.Close()
}

// sentinel is the driver's error for an answer of the API, or for a call that
// Close cut off.
func (d *Driver) sentinel(err error) error {
	if status.Code(err) == codes.Canceled && d.check(context.Background()) != nil {
		return driver.ErrClosed
	}
	return toSentinel(err)
}

// toSentinel is the driver's error for an answer of the API.
func toSentinel(err error) error {
	if err == nil {
		return nil
	}
	for _, detail := range status.Convert(err).Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok {
			continue
		}
		m := info.GetMetadata()
		switch info.GetReason() {
		case "LOCK_HELD":
			n, _ := strconv.Atoi(m["queue_length"])
			e := &driver.HeldError{QueueLength: n, BySelf: m["held_by_self"] == "true", OtherMode: m["other_mode"] == "true"}
			if m["holder"] != "" {
				remaining, _ := time.ParseDuration(m["remaining"])
				e.Holder = &driver.Holder{OwnerID: m["holder"], Remaining: remaining}
			}
			return e
		case "LEASE_LOST":
			return driver.Lost(driver.Cause(m["cause"]))
		case "NOT_OWNER":
			return driver.ErrNotOwner
		case "STALE_TOKEN":
			return driver.ErrStaleToken
		case "NO_SUCH_WAITER":
			return driver.ErrNoPlace
		case "DEADLOCK":
			return driver.ErrDeadlock
		case "UNSUPPORTED":
			return driver.ErrUnsupported
		case "LIMIT_EXCEEDED":
			return driver.ErrLimit
		case "OUTCOME_UNKNOWN":
			return driver.ErrIndeterminate
		case "QUARANTINED":
			return fmt.Errorf("%w: %w", driver.ErrQuarantined, err)
		}
		if status.Code(err) == codes.InvalidArgument {
			return fmt.Errorf("%w: %w", driver.ErrInvalid, err)
		}
	}
	if status.Code(err) == codes.Unavailable {
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	return err
}
