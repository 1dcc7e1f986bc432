package dynamodb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var _ driver.QueueEditor = (*Store)(nil)

// Evict ends another's lease; as expired only one that this driver has seen
// unchanged for its time.
func (s *Store) Evict(ctx context.Context, req *driver.EvictRequest) (*driver.Ended, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if req.Cause == driver.CauseExpired {
		if told := s.ended.take(req.LockID, req.Token); len(told) > 0 {
			return &told[0], nil
		}
	}
	return changed(ctx, s, req.LockID, nil, func(r *record, at moment) (*driver.Ended, error) {
		h := r.holderOf(func(h *holder) bool { return h.token == req.Token })
		switch {
		case h == nil:
			return nil, r.gone(req.Token)
		case req.Cause == driver.CauseExpired && h.expires > at.now:
			public := h.public(at)
			return nil, &driver.HeldError{Holder: &public, QueueLength: len(r.waiters)}
		}
		ended := h.ended(r.id, req.Cause)
		r.endLease(h, req.Cause)
		r.change.any = true
		if req.Cause == driver.CauseExpired {
			r.change.expired = append(r.change.expired, h)
		} else {
			r.tell(h)
		}
		return &ended, nil
	})
}

// EditPlace drops or moves another's place.
func (s *Store) EditPlace(ctx context.Context, req *driver.EditPlaceRequest) (*driver.Waiter, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return changed(ctx, s, req.LockID, nil, func(r *record, at moment) (*driver.Waiter, error) {
		i := slices.IndexFunc(r.waiters, func(w *waiter) bool { return w.ticket == req.Ticket && w.dies > at.now })
		if i < 0 {
			return nil, driver.ErrNoPlace
		}
		w := r.waiters[i]
		public := w.public(i+1, at)
		r.dequeue(w)
		if req.Drop {
			r.remember(end{mark: requestMark(w.request), cause: driver.CauseForced})
			if w.driver == s.id {
				r.change.left = append(r.change.left, w.request)
				r.change.cancelled = append(r.change.cancelled, w.request)
			}
		} else {
			w.priority = req.Priority
			r.enqueue(w)
			public = w.public(r.position(w), at)
		}
		return &public, nil
	})
}

// public is w, at a position, as everybody may see it.
func (w *waiter) public(position int, at moment) driver.Waiter {
	return driver.Waiter{
		OwnerID: w.owner, RequestID: w.request, Ticket: w.ticket, Position: position, Priority: w.priority, Shared: w.shared,
		Remaining: min(w.dies.Sub(at.now), w.ttl),
	}
}

// begin is the start of a call that is not an acquire.
func (s *Store) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := s.check(ctx); err != nil {
		return nil, nil, err
	}
	ctx, cancel := s.bound(ctx)
	if err := s.ready(ctx); err != nil {
		cancel()
		return nil, nil, err
	}
	return ctx, cancel, nil
}

// gone says why no lease has the token.
func (r *record) gone(token int64) error {
	if e, ok := r.endOf(func(e end) bool { return e.token == token }); ok {
		return driver.Lost(e.cause)
	}
	if len(r.holders) > 0 {
		return &driver.TokenError{Expected: r.holders[0].token, Actual: token}
	}
	return driver.Lost(driver.CauseUnknown)
}

// Revoke marks a lease so that it cannot be prolonged.
func (s *Store) Revoke(ctx context.Context, req *driver.EvictRequest) (*driver.Holder, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	return changed(ctx, s, req.LockID, nil, func(r *record, at moment) (*driver.Holder, error) {
		h := r.holderOf(func(h *holder) bool { return h.token == req.Token })
		if h == nil {
			return nil, r.gone(req.Token)
		}
		if !h.revoked {
			h.revoked = true
			r.put(h)
		}
		r.tell(h)
		public := h.public(at)
		return &public, nil
	})
}

// Inspect reads one lock. What this driver has not seen for long enough to know it
// ended is shown.
func (s *Store) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	r, at, err := s.read(ctx, lockID)
	if err != nil {
		return nil, err
	}
	s.listen(ctx, r)
	lock := r.public(at)
	return &lock, nil
}

// public is the lock as everybody may see it, without what has run out.
func (r *record) public(at moment) driver.Lock {
	lock := driver.Lock{LockID: r.id, Token: r.last}
	for _, h := range r.holders {
		if h.expires > at.now {
			lock.Holders = append(lock.Holders, h.public(at))
		}
	}
	for _, w := range r.waiters {
		if w.dies > at.now {
			lock.Waiters = append(lock.Waiters, w.public(len(lock.Waiters)+1, at))
		}
	}
	return lock
}

const (
	// pageTokenPrefix is followed by the key of the item after which a listing goes
	// on; it may be that of an idle lock, or none of a lock.
	pageTokenPrefix = "v1:"
	// maxKey is how long a key of a table may be.
	maxKey = 2048
	// scanned bounds the items that one request of a listing reads.
	scanned = 1000
)

// List reads the busy locks in the table's own order: a scan of the whole table,
// page by page. Where many locks are idle a page may take more requests than a call
// has time for: it then ends where it has come to, short or empty.
func (s *Store) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	ctx, cancel, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	after, ok := strings.CutPrefix(req.PageToken, pageTokenPrefix)
	if req.PageToken != "" && (!ok || after == "" || len(after) > maxKey) {
		return nil, fmt.Errorf("page token %q: %w: it is not from a listing of this store", req.PageToken, driver.ErrInvalid)
	}
	var start map[string]value
	if after != "" {
		start = map[string]value{"k": text(after)}
	}
	page := &driver.ListPage{}
	consistent, most, busy := true, int32(scanned), busyFilter
	for {
		out, _, err := once(ctx, s, reads, s.client.Scan, &sdk.ScanInput{
			TableName: &s.o.Table, ConsistentRead: &consistent, ExclusiveStartKey: start, Limit: &most, FilterExpression: &busy,
			ExpressionAttributeValues: map[string]value{":prefix": text(s.recordKey(req.Prefix)), ":zero": number(0)},
		})
		if err != nil {
			return nil, err
		}
		at := moment{now: s.o.Clock.Now(), wall: s.o.Now()}
		for _, item := range out.Items {
			key := (&reader{}).text(item, "k")
			r, err := decode(strings.TrimPrefix(key, s.recordKey("")), item)
			if err != nil {
				return nil, err
			}
			s.look(r, at)
			lock := r.public(at)
			if len(lock.Waiters) == 0 && (len(lock.Holders) == 0 || req.Contended) {
				continue
			}
			if len(page.Locks) == req.PageSize {
				page.NextPageToken = pageTokenPrefix + s.recordKey(page.Locks[req.PageSize-1].LockID)
				return page, nil
			}
			page.Locks = append(page.Locks, lock)
		}
		if start = out.LastEvaluatedKey; len(start) == 0 {
			return page, nil
		}
		if len(page.Locks) == req.PageSize || s.short(ctx) {
			// Whether more follow, the next page says.
			page.NextPageToken = pageTokenPrefix + (&reader{}).text(start, "k")
			return page, nil
		}
	}
}

// short says that a call has no time left for one more request that takes as long as
// it may.
func (s *Store) short(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < s.o.Timeout
}
