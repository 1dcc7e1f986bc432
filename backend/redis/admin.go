package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var _ driver.QueueEditor = (*Store)(nil)

// causes are the stored letters of the causes that a caller may give.
var causes = map[driver.Cause]string{driver.CauseExpired: "e", driver.CauseForced: "f", driver.CauseDeadlock: "d"}

// Evict ends another's lease.
func (s *Store) Evict(ctx context.Context, req *driver.EvictRequest) (*driver.Ended, error) {
	letter, ok := causes[req.Cause]
	if !ok {
		return nil, fmt.Errorf("evict with cause %q: %w: want expired, forced or deadlock", req.Cause, driver.ErrInvalid)
	}
	_, reply, err := s.do(ctx, s.urgent(evictScript, req.LockID, req.Token, letter), "")
	if err != nil {
		return nil, err
	}
	r := fields(reply)
	if r.text(0) != "ended" {
		return nil, s.refusal(r, req.Token)
	}
	return &driver.Ended{LockID: req.LockID, OwnerID: r.text(1), Token: req.Token, Shared: r.text(2) == "1", Cause: req.Cause}, nil
}

// Revoke marks a lease so that it cannot be prolonged.
func (s *Store) Revoke(ctx context.Context, req *driver.EvictRequest) (*driver.Holder, error) {
	_, reply, err := s.do(ctx, s.urgent(evictScript, req.LockID, req.Token, "r"), "")
	if err != nil {
		return nil, err
	}
	r := fields(reply)
	if r.text(0) != "holder" {
		return nil, s.refusal(r, req.Token)
	}
	holders, err := parseHolders(r.text(1), r.integer(2))
	if err != nil || len(holders) != 1 {
		return nil, fmt.Errorf("%w: the record of %q cannot be read: %w", driver.ErrFormat, req.LockID, err)
	}
	return &holders[0], nil
}

// Inspect reads one lock.
func (s *Store) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	_, reply, err := s.do(ctx, s.urgent(inspectScript, lockID), "")
	if err != nil {
		return nil, err
	}
	return s.inspected(lockID, reply)
}

func (s *Store) inspected(lockID string, reply []any) (*driver.Lock, error) {
	r := fields(reply)
	if r.text(0) != "lock" {
		return nil, s.refusal(r, 0)
	}
	now := r.integer(2)
	holders, err := parseHolders(r.text(3), now)
	if err != nil {
		return nil, err
	}
	lock := &driver.Lock{LockID: lockID, Token: r.integer(1), Holders: holders}
	for w := r.list(4); len(w) >= 3; w = w[3:] {
		one, err := parseWaiter(lockID, w, now)
		if err != nil {
			return nil, err
		}
		if one.Remaining <= 0 {
			continue
		}
		one.Position = len(lock.Waiters) + 1
		lock.Waiters = append(lock.Waiters, *one)
	}
	return lock, nil
}

// parseWaiter reads a place: its request, what is stored of it, and its deadline.
func parseWaiter(lockID string, w fields, now int64) (*driver.Waiter, error) {
	ticket, rest, _ := strings.Cut(w.text(1), fieldSeparator)
	parts := strings.SplitN(rest, fieldSeparator, 5) // priority, shared, inbox, start of the key, owner
	deadline, err := strconv.ParseFloat(w.text(2), 64)
	if len(parts) != 5 || err != nil {
		return nil, fmt.Errorf("%w: a waiter of %q cannot be read", driver.ErrFormat, lockID)
	}
	return &driver.Waiter{
		OwnerID: parts[4], RequestID: w.text(0), Ticket: integer(ticket), Priority: int(integer(parts[0])), Shared: parts[1] == "1",
		Remaining: time.Duration(int64(deadline)-now) * time.Microsecond,
	}, nil
}

// EditPlace drops or moves another's place.
func (s *Store) EditPlace(ctx context.Context, req *driver.EditPlaceRequest) (*driver.Waiter, error) {
	priority := ""
	if !req.Drop {
		priority = strconv.Itoa(req.Priority)
	}
	_, reply, err := s.do(ctx, s.urgent(editScript, req.LockID, req.Ticket, priority, driver.PriorityStep), "")
	if err != nil {
		return nil, err
	}
	r := fields(reply)
	switch r.text(0) {
	case "place":
	case "noplace":
		return nil, driver.ErrNoPlace
	default:
		return nil, s.refusal(r, 0)
	}
	w, err := parseWaiter(req.LockID, r[3:], r.integer(1))
	if err == nil {
		w.Position = int(r.integer(2))
	}
	return w, err
}

// List reads the busy locks shard by shard, and within a shard by id. The page
// token is the shard and the last id of the page before.
func (s *Store) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	shard, after, err := parsePageToken(req.PageToken)
	if err != nil {
		return nil, err
	}
	page := &driver.ListPage{}
	for ; shard < shards; shard += listShards {
		ids, err := s.busy(ctx, shard, min(shard+listShards, shards))
		if err != nil {
			return nil, err
		}
		var listed []string
		for i, group := range ids {
			slices.Sort(group)
			for _, id := range group {
				if strings.HasPrefix(id, req.Prefix) && (i > 0 || id > after) {
					listed = append(listed, id)
				}
			}
		}
		if req.Contended {
			if listed, err = s.queued(ctx, listed); err != nil {
				return nil, err
			}
		}
		for len(listed) > 0 {
			room := req.PageSize - len(page.Locks)
			if room == 0 {
				last := page.Locks[req.PageSize-1].LockID
				page.NextPageToken = fmt.Sprintf("%03x:%s", shardOf(last), last)
				return page, nil
			}
			n := min(len(listed), room, inspectAtOnce)
			locks, err := s.inspectAll(ctx, listed[:n])
			if err != nil {
				return nil, err
			}
			for _, lock := range locks {
				if len(lock.Waiters) > 0 || len(lock.Holders) > 0 && !req.Contended {
					page.Locks = append(page.Locks, *lock)
				}
			}
			listed = listed[n:]
		}
		after = ""
	}
	return page, nil
}

// queuedAtOnce bounds the records of which a listing reads one field in one
// pipeline.
const queuedAtOnce = 1024

// queued are those of the locks that somebody waits for, as their records say.
// It costs a small part of an inspection.
func (s *Store) queued(ctx context.Context, ids []string) (waited []string, err error) {
	for chunk := range slices.Chunk(ids, queuedAtOnce) {
		free, failed := make([]bool, len(chunk)), make([]error, len(chunk))
		calls := make([]*call, len(chunk))
		for i, id := range chunk {
			shard := shardOf(id)
			calls[i] = &call{
				ctx: ctx, args: []any{"hmget", s.shardPrefix(shard) + "l:" + id, "q"}, slot: s.slot(shard), urgent: true,
				done: func(_ *call, reply []any, err error) {
					free[i], failed[i] = err == nil && fields(reply).text(0) == "0", err
				},
			}
		}
		if err := s.read(ctx, calls); err != nil {
			return nil, err
		}
		for i, id := range chunk {
			if failed[i] != nil {
				return nil, failed[i]
			}
			if !free[i] {
				waited = append(waited, id)
			}
		}
	}
	return waited, nil
}

// inspectAtOnce bounds the locks that a listing reads in one pipeline.
const inspectAtOnce = 128

// inspectAll reads locks in the order of their ids.
func (s *Store) inspectAll(ctx context.Context, ids []string) ([]*driver.Lock, error) {
	locks, failed := make([]*driver.Lock, len(ids)), make([]error, len(ids))
	calls := make([]*call, len(ids))
	for i, id := range ids {
		calls[i] = s.urgent(inspectScript, id)
		calls[i].ctx = ctx
		calls[i].done = func(_ *call, reply []any, err error) {
			if err == nil {
				locks[i], err = s.inspected(id, reply)
			}
			failed[i] = err
		}
	}
	if err := s.read(ctx, calls); err != nil {
		return nil, err
	}
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return locks, nil
}

// listShards is how many shards' indexes are read in one pipeline.
const listShards = 512

// busy reads the indexes of the shards in [from, to).
func (s *Store) busy(ctx context.Context, from, to int) ([][]string, error) {
	ids, failed := make([][]string, to-from), make([]error, to-from)
	calls := make([]*call, 0, to-from)
	for shard := from; shard < to; shard++ {
		c, i := s.index(ctx, shard, "zrange", 0, -1), shard-from
		c.done = func(_ *call, reply []any, err error) {
			ids[i], failed[i] = slices.DeleteFunc(texts(reply), isEnd), err
		}
		calls = append(calls, c)
	}
	if err := s.read(ctx, calls); err != nil {
		return nil, err
	}
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

func parsePageToken(token string) (shard int, after string, err error) {
	if token == "" {
		return 0, "", nil
	}
	head, after, ok := strings.Cut(token, ":")
	n, err := strconv.ParseUint(head, 16, 12)
	if !ok || err != nil || after == "" || shardOf(after) != int(n) {
		return 0, "", fmt.Errorf("page token %q: %w: it is not from a listing of this store", token, driver.ErrInvalid)
	}
	return int(n), after, nil
}
