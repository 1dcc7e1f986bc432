package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// find returns the lease that ref proves. For a lease that ended it also returns its
// end.
func (r *record) find(ref driver.LeaseRef) (h *holder, ended *end, err error) {
	h, err = driver.Proven(ref, r.holders, (*holder).proof, func() driver.Cause {
		e, ok := r.endOf(func(e end) bool { return e.token == ref.Token && e.key == ref.Key })
		if !ok {
			return driver.CauseUnknown
		}
		ended = &e
		return e.cause
	})
	return h, ended, err
}

func (h *holder) proof() driver.Proof {
	return driver.Proof{Token: h.token, Key: h.key, Attach: h.attach}
}

// Renew prolongs a lease, by one write if no later renewal has come first.
func (s *Store) Renew(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return s.prolong(ctx, req, false)
}

// Adopt attaches the caller to a standing lease.
func (s *Store) Adopt(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return s.prolong(ctx, req, true)
}

func (s *Store) prolong(ctx context.Context, req *driver.RenewRequest, adopt bool) (*driver.Lease, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	ttl, seen := s.ttl(req.TTL), int64(0)
	// What this driver has seen stand for its time is looked at first: it may be
	// over, or others may have renewed it.
	o, ok := s.leases.known(leaseName{req.LockID, req.Token})
	look := ok && o.since.Add(o.ttl) <= s.o.Clock.Now()
	for {
		if look {
			h, err := s.stands(ctx, req)
			if err != nil {
				return nil, err
			}
			// A renewal does not shorten: the lease keeps the longer time.
			ttl, seen = max(ttl, h.ttl), h.beat
		}
		l, err := s.raise(ctx, req, ttl, s.beat(seen), adopt)
		switch {
		case err == nil:
			return l, nil
		case !errors.Is(err, errRefused):
			return nil, err
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: others renew the lease all the time: %w", driver.ErrUnavailable, ctx.Err())
		}
		look = true
	}
}

// stands reads the lease that is to be prolonged.
func (s *Store) stands(ctx context.Context, req *driver.RenewRequest) (*holder, error) {
	r, at, err := s.read(ctx, req.LockID)
	if err != nil {
		return nil, err
	}
	h, _, err := r.find(req.LeaseRef)
	switch {
	case err != nil:
		return nil, err
	case h.revoked:
		return nil, driver.Lost(driver.CauseForced)
	case h.expires <= at.now:
		// It stood unchanged for its time: whoever evicts it reports it.
		return nil, driver.Lost(driver.CauseExpired)
	}
	return h, nil
}

// raise writes a new heartbeat of a lease.
func (s *Store) raise(ctx context.Context, req *driver.RenewRequest, ttl time.Duration, beat int64, adopt bool) (*driver.Lease, error) {
	condition, expression := renewCondition, renewUpdate
	values := map[string]value{":f": number(driver.Format), ":key": text(string(req.Key)), ":no": truthOf(false), ":beat": number(beat), ":ttl": number(micros(ttl))}
	switch {
	case adopt:
		expression = adoptUpdate
		values[":one"] = number(1)
	case req.Attach != 0:
		condition += attachCondition
		values[":attach"] = number(req.Attach)
	}
	item, sent, err := s.update(ctx, req.LockID, condition, expression, map[string]string{"#t": tokenName(req.Token)}, values, types.ReturnValueAllNew)
	if err != nil {
		return nil, err
	}
	name := leaseName{req.LockID, req.Token}
	s.leases.wrote(name, beat, ttl, sent)
	r, err := decode(req.LockID, item)
	if err != nil {
		return nil, err
	}
	h := r.holderOf(func(h *holder) bool { return h.token == req.Token })
	if h == nil {
		return nil, fmt.Errorf("%w: the lease that was renewed is not in the answer", driver.ErrIndeterminate)
	}
	if adopt {
		s.hint(driver.Hint{Kind: driver.HintRevoked, LockID: req.LockID, Token: req.Token})
	}
	h.since, h.own = sent, true
	return h.lease(req.LockID, moment{now: s.o.Clock.Now(), wall: s.o.Now()}), nil
}

// Release ends one hold, by one write if it is the lease's only one.
func (s *Store) Release(ctx context.Context, req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	if req.RequestID != "" {
		res, err := s.releaseAtOnce(ctx, req)
		if !errors.Is(err, errRefused) {
			return res, err
		}
	}
	return changed(ctx, s, req.LockID, nil, func(r *record, _ moment) (*driver.ReleaseResult, error) {
		h, e, lost := r.find(req.LeaseRef)
		switch {
		case e != nil && (e.cause == driver.CauseReleased || r.released(req)):
			return &driver.ReleaseResult{}, nil // repeated
		case lost != nil:
			return nil, lost
		case req.RequestID == "" && len(h.holds) > 1:
			return nil, driver.ErrAmbiguousHold
		}
		request := req.RequestID
		if request == "" {
			request = h.holds[0]
		}
		res := &driver.ReleaseResult{HoldCount: r.dropHold(h, request, requestMark(request)), OwnerID: h.owner, Shared: h.shared}
		if req.Attach == 0 && res.HoldCount == 0 {
			r.tell(h)
		}
		return res, nil
	})
}

// releaseAtOnce is the release of a lease's only hold: one write, or errRefused.
func (s *Store) releaseAtOnce(ctx context.Context, req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	condition := releaseCondition
	e := end{mark: requestMark(req.RequestID), token: req.Token, key: req.Key, cause: driver.CauseReleased}
	values := map[string]value{
		":f": number(driver.Format), ":key": text(string(req.Key)), ":one": number(1), ":request": text(req.RequestID), ":many": number(many),
		":end": list(e.encode()),
	}
	if req.Attach != 0 {
		condition += attachCondition
		values[":attach"] = number(req.Attach)
	}
	item, _, err := s.update(ctx, req.LockID, condition, releaseUpdate, map[string]string{"#t": tokenName(req.Token)}, values, types.ReturnValueAllOld)
	if err != nil {
		return nil, err
	}
	s.leases.forget(leaseName{req.LockID, req.Token})
	r, err := decode(req.LockID, item)
	if err != nil {
		return nil, err
	}
	res := &driver.ReleaseResult{}
	r.holders = slices.DeleteFunc(r.holders, func(h *holder) bool {
		if h.token != req.Token {
			return false
		}
		res.OwnerID, res.Shared = h.owner, h.shared
		return true
	})
	if req.Attach == 0 {
		s.hint(driver.Hint{Kind: driver.HintRevoked, LockID: req.LockID, Token: req.Token})
	}
	if len(r.waiters) > 0 { // somebody comes at once
		r.ends = append(r.ends, e)
		s.latest.put(req.LockID, r.item(r.version+1), s.o.Clock.Now())
	}
	s.wake(r)
	return res, nil
}

// released says whether the hold was released before its lease ended otherwise.
func (r *record) released(req *driver.ReleaseRequest) bool {
	e, ok := r.endOf(func(e end) bool {
		return e.ends(req.RequestID, req.Key) && e.token == req.Token && e.key == req.Key
	})
	return ok && e.cause == driver.CauseReleased
}

// dropHold ends a hold, and the lease with its last one; it returns the number of
// holds left. A hold that is not there was released before.
func (r *record) dropHold(h *holder, request, mark string) int {
	i := slices.Index(h.holds, request)
	if i < 0 {
		return len(h.holds)
	}
	r.change.any = true
	if len(h.holds) == 1 {
		r.remove(h)
		r.remember(end{mark: mark, token: h.token, key: h.key, cause: driver.CauseReleased})
		return 0
	}
	h.holds = slices.Delete(h.holds, i, i+1)
	r.put(h)
	r.remember(end{mark: mark, token: h.token, key: h.key, cause: driver.CauseReleased})
	return len(h.holds)
}

// tell hints at the holder that its lease has changed under it.
func (r *record) tell(h *holder) {
	r.change.lose = append(r.change.lose, driver.Hint{Kind: driver.HintRevoked, LockID: r.id, Token: h.token})
}

// Leave drops a place or an undelivered grant, and leaves an end behind that
// refuses an acquire which is still on its way.
func (s *Store) Leave(ctx context.Context, req *driver.LeaveRequest) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.ready(ctx); err != nil {
		return err
	}
	_, err := changed(ctx, s, req.LockID, nil, func(r *record, _ moment) (struct{}, error) {
		mine := func(key driver.Key) bool { return req.Key == "" || req.Key == key }
		if w := r.waiter(req.RequestID); w != nil && mine(w.key) {
			r.dequeue(w)
			r.change.left = append(r.change.left, req.RequestID)
		}
		if h := r.holderOf(func(h *holder) bool { return slices.Contains(h.holds, req.RequestID) }); h != nil {
			if mine(h.key) {
				if r.dropHold(h, req.RequestID, attemptMark(req.RequestID, req.Key)) == 0 {
					r.tell(h)
				}
			}
			return struct{}{}, nil
		}
		if _, ok := r.endOf(func(e end) bool { return e.ends(req.RequestID, req.Key) }); !ok {
			r.remember(end{mark: attemptMark(req.RequestID, req.Key), cause: driver.CauseReleased})
			r.change.any = true
		}
		return struct{}{}, nil
	})
	return err
}
