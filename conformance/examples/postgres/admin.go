package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Evict ends another's lease.
func (s *Store) Evict(ctx context.Context, req *driver.EvictRequest) (*driver.Ended, error) {
	return change(ctx, s, req.LockID, func(r *record, at moment) (*driver.Ended, error) {
		l := r.leaseOf(func(l *lease) bool { return l.Token == req.Token })
		switch {
		case req.Cause == driver.CauseExpired && l != nil:
			return nil, &driver.HeldError{Holder: l.shown(at.now), QueueLength: len(r.Places)}
		case req.Cause == driver.CauseExpired:
			// The first to report the expiry wins.
			return r.tellOne(req)
		case l == nil:
			return nil, r.gone(req.Token)
		}
		r.endLease(l, req.Cause)
		ended := l.ended(req.LockID, req.Cause)
		return &ended, nil
	})
}

// tell takes the expired leases that are to be reported.
func (r *record) tell(lockID string) (ends []driver.Ended) {
	ends, r.Untold = r.Untold, nil
	for i := range ends {
		ends[i].LockID = lockID
	}
	return ends
}

// tellOne is tell for one token.
func (r *record) tellOne(req *driver.EvictRequest) (*driver.Ended, error) {
	i := slices.IndexFunc(r.Untold, func(e driver.Ended) bool { return e.Token == req.Token })
	if i < 0 {
		return nil, r.gone(req.Token)
	}
	ended := r.Untold[i]
	ended.LockID = req.LockID
	r.Untold = slices.Delete(r.Untold, i, i+1)
	return &ended, nil
}

// gone says why no lease has the token.
func (r *record) gone(token int64) error {
	if e := r.endOf(func(e end) bool { return e.Token == token }); e != nil {
		return driver.Lost(e.Cause)
	}
	if len(r.Leases) > 0 {
		return &driver.TokenError{Expected: r.Leases[0].Token, Actual: token}
	}
	return driver.Lost(driver.CauseUnknown)
}

// Revoke marks a lease so that it cannot be prolonged.
func (s *Store) Revoke(ctx context.Context, req *driver.EvictRequest) (*driver.Holder, error) {
	return change(ctx, s, req.LockID, func(r *record, at moment) (*driver.Holder, error) {
		l := r.leaseOf(func(l *lease) bool { return l.Token == req.Token })
		if l == nil {
			return nil, r.gone(req.Token)
		}
		l.Revoked = true
		return l.shown(at.now), nil
	})
}

// Inspect reads one lock.
func (s *Store) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	locks, err := s.read(ctx, "select $1::text, record, now from ("+s.sql.read+") as t (record, now)", lockID)
	if err != nil {
		return nil, err
	}
	if len(locks) == 0 {
		return &driver.Lock{LockID: lockID}, nil
	}
	return &locks[0], nil
}

// pageToken is what a page token starts with; the last id of the page follows.
const pageToken = "v1:"

// List reads the busy locks in the order of their ids.
func (s *Store) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	after, ok := strings.CutPrefix(req.PageToken, pageToken)
	if !ok && req.PageToken != "" {
		return nil, fmt.Errorf("page token %q: %w: it is not from a listing of this store", req.PageToken, driver.ErrInvalid)
	}
	locks, err := s.read(ctx, s.sql.list, after, req.Prefix, req.Contended, req.PageSize)
	if err != nil {
		return nil, err
	}
	page := &driver.ListPage{}
	if len(locks) == req.PageSize {
		page.NextPageToken = pageToken + locks[len(locks)-1].LockID
	}
	// What ran out while the rows were read is left out after the page was cut.
	page.Locks = slices.DeleteFunc(locks, func(l driver.Lock) bool {
		return len(l.Waiters) == 0 && (req.Contended || len(l.Holders) == 0)
	})
	return page, nil
}

// read runs a query for ids, records and the clock.
func (s *Store) read(ctx context.Context, query string, args ...any) ([]driver.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, s.undone(err)
	}
	var damaged error
	locks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (driver.Lock, error) {
		var id, raw string
		var now micros
		if err := row.Scan(&id, &raw, &now); err != nil {
			return driver.Lock{}, err
		}
		r, err := decode(raw)
		if err != nil {
			damaged = fmt.Errorf("the row of %q: %w", id, err)
			return driver.Lock{}, damaged
		}
		return r.shown(id, now), nil
	})
	if damaged != nil {
		return nil, damaged
	}
	if err != nil {
		return nil, s.undone(err)
	}
	return locks, nil
}

// shown is the lock as everybody may see it, without what has run out.
func (r *record) shown(lockID string, now micros) driver.Lock {
	r.prune(now)
	lock := driver.Lock{LockID: lockID, Token: r.Last}
	for _, l := range r.Leases {
		lock.Holders = append(lock.Holders, *l.shown(now))
	}
	for i, p := range r.Places {
		lock.Waiters = append(lock.Waiters, driver.Waiter{
			OwnerID: p.Owner, RequestID: p.Request, Ticket: p.Ticket, Position: i + 1, Priority: p.Priority, Shared: p.Shared,
			Remaining: p.Deadline.sub(now),
		})
	}
	return lock
}

// Collect deletes the rows of locks that have been free for the retention, and
// returns their number. Somebody should call it now and then.
func (s *Store) Collect(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	tag, err := conn.Exec(ctx, s.sql.collect)
	if err != nil {
		return 0, fmt.Errorf("collect: %w", s.undone(err))
	}
	return tag.RowsAffected(), nil
}
