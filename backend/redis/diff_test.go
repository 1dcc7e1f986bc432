package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// general is the driver without the short scripts of the common cases.
type general struct{ *Store }

var (
	generalAcquire = newAcquire("")
	generalRelease = newRelease("")
)

func (g general) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if err := g.initialised(ctx); err != nil {
		return nil, err
	}
	c, err := g.acquiring(generalAcquire, req)
	if err != nil {
		return nil, err
	}
	c, reply, err := g.do(ctx, c, req.RequestID)
	if err != nil {
		return nil, err
	}
	return g.acquired(req, c, reply)
}

func (g general) Release(ctx context.Context, req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	_, reply, err := g.do(ctx, g.releasing(generalRelease, req), "")
	if err != nil {
		return nil, err
	}
	return g.released(req, reply)
}

// openOn opens a driver of the server under a prefix.
func openOn(t testing.TB, server *testenv.Redis, prefix string) *Store {
	t.Helper()
	return openWith(t, server, Options{Prefix: prefix})
}

// openPolling opens a driver whose waiters ask as often as they are told.
func openPolling(t testing.TB, server *testenv.Redis, poll time.Duration) *Store {
	t.Helper()
	return openWith(t, server, Options{Poll: poll})
}

// openWith opens a driver that waits for as long as the tests do.
func openWith(t testing.TB, server *testenv.Redis, o Options) *Store {
	t.Helper()
	o.MinTTL, o.New, o.Timeout = time.Millisecond, true, patience
	o.Client.Addr = server.Addr()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// subject is a store under a history: two drivers on it, and the tokens that it
// gave, by the request that they were granted to.
type subject struct {
	name    string
	drivers [2]driver.Driver
	tokens  map[string]int64
}

// grant is the request whose grant has the token.
func (s *subject) grant(token int64) string {
	for request, t := range s.tokens {
		if t == token {
			return request
		}
	}
	return fmt.Sprintf("token %d", token)
}

// step is one call of a history, with the tokens by name.
type step struct {
	kind   string
	driver int
	acq    driver.AcquireRequest
	// grant names the lease by the request that it was granted to.
	grant   string
	ref     driver.LeaseRef
	request string
	stale   int64
	ttl     time.Duration
	cause   driver.Cause
	// attempt: a leave is of one attempt, not of the whole request.
	attempt bool
}

// run makes the call and describes its outcome in words that two stores share.
func (s *subject) run(ctx context.Context, st step) string {
	d, ref := s.drivers[st.driver], st.ref
	ref.Token = s.tokens[st.grant] + st.stale
	switch st.kind {
	case "acquire":
		res, err := d.Acquire(ctx, &st.acq)
		if err != nil {
			return s.failure(err)
		}
		if res.Lease == nil {
			return fmt.Sprintf("queued %d of %d behind %s, %d evicted", res.Position, res.QueueLength, s.holder(res.Holder), len(res.Evicted))
		}
		if strings.HasPrefix(s.grant(res.Lease.Token), "token ") { // a new one
			s.tokens[st.acq.RequestID] = res.Lease.Token
		}
		return fmt.Sprintf("%s, %d evicted", s.lease(res.Lease), len(res.Evicted))
	case "renew", "adopt":
		call := d.Renew
		if st.kind == "adopt" {
			call = d.Adopt
		}
		l, err := call(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: st.ttl})
		if err != nil {
			return s.failure(err)
		}
		return s.lease(l)
	case "release":
		res, err := d.Release(ctx, &driver.ReleaseRequest{LeaseRef: ref, RequestID: st.request})
		if err != nil {
			return s.failure(err)
		}
		return fmt.Sprintf("released, %d holds left", res.HoldCount)
	case "leave":
		leave := &driver.LeaveRequest{LockID: ref.LockID, RequestID: st.request}
		if st.attempt {
			leave.Key = ref.Key
		}
		if err := d.Leave(ctx, leave); err != nil {
			return s.failure(err)
		}
		return "left"
	case "evict":
		e, err := d.Evict(ctx, &driver.EvictRequest{LockID: ref.LockID, Token: ref.Token, Cause: st.cause})
		if err != nil {
			return s.failure(err)
		}
		return fmt.Sprintf("ended %s of %s shared=%v %s", s.grant(e.Token), e.OwnerID, e.Shared, e.Cause)
	case "revoke":
		h, err := d.Revoke(ctx, &driver.EvictRequest{LockID: ref.LockID, Token: ref.Token, Cause: driver.CauseForced})
		if err != nil {
			return s.failure(err)
		}
		return "revoked " + s.holder(h)
	}
	panic(st.kind)
}

func (s *subject) lease(l *driver.Lease) string {
	return fmt.Sprintf("lease %s of %s shared=%v holds=%v attach=%d ttl=%v note=%v", s.grant(l.Token), l.OwnerID, l.Shared, l.Holds, l.Attach, l.TTL, l.Metadata)
}

func (s *subject) holder(h *driver.Holder) string {
	if h == nil {
		return "nobody"
	}
	return fmt.Sprintf("%s of %s shared=%v holds=%d attach=%d ttl=%v revoked=%v note=%v", s.grant(h.Token), h.OwnerID, h.Shared, h.HoldCount, h.Attach, h.TTL, h.Revoked, h.Metadata)
}

func (s *subject) failure(err error) string {
	var held *driver.HeldError
	var stale *driver.TokenError
	var lost *driver.LostError
	switch {
	case errors.As(err, &held):
		return fmt.Sprintf("held self=%v mode=%v queue=%d by %s", held.BySelf, held.OtherMode, held.QueueLength, s.holder(held.Holder))
	case errors.As(err, &stale):
		return "stale, it is " + s.grant(stale.Expected)
	case errors.As(err, &lost):
		return "lost " + string(lost.Cause)
	}
	return err.Error()
}

// state is the whole lock in words that two stores share.
func (s *subject) state(t *testing.T, lockID string) string {
	t.Helper()
	l, err := s.drivers[0].Inspect(t.Context(), lockID)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "token of %s\n", s.grant(l.Token))
	for _, h := range l.Holders {
		fmt.Fprintln(&b, s.holder(&h))
	}
	for _, w := range l.Waiters {
		fmt.Fprintf(&b, "%d. %s %s ticket %d priority %d shared=%v\n", w.Position, w.OwnerID, w.RequestID, w.Ticket, w.Priority, w.Shared)
	}
	return b.String()
}

// next draws the next step. known are the requests made so far, with the grants
// that they may name.
func next(r *rand.Rand, lockID string, n int, known *[]driver.AcquireRequest) step {
	st := step{driver: r.IntN(2), ref: driver.LeaseRef{LockID: lockID, Key: driver.KeyOf("nobody's")}, cause: driver.CauseForced}
	pick := func() driver.AcquireRequest { return (*known)[r.IntN(len(*known))] }
	if len(*known) == 0 || r.IntN(5) < 2 {
		owner := fmt.Sprintf("owner.%%d[%d]", r.IntN(4))
		q := driver.AcquireRequest{
			LockID: lockID, OwnerID: owner, RequestID: fmt.Sprintf("req(%%1)-%d", n), Key: driver.KeyOf(owner),
			TTL: time.Duration(50+r.IntN(10)) * time.Second, Shared: r.IntN(3) == 0, Reentrant: r.IntN(2) == 0,
			Enqueue: r.IntN(3) > 0, Priority: r.IntN(10) * r.IntN(2), PlaceTTL: time.Minute,
		}
		if r.IntN(3) == 0 {
			q.Metadata = map[string]string{"k\x1e%1": "\x1f\x1d|'\"\u2028"}
		}
		if r.IntN(6) == 0 {
			q.TokenFloor = driver.MaxClockToken - 1000
		}
		if r.IntN(4) == 0 {
			q.Key = driver.KeyOf(q.RequestID)
		}
		*known = append(*known, q)
		st.kind, st.acq = "acquire", q
		return st
	}
	q := pick()
	st.grant, st.ref.Key, st.request = q.RequestID, q.Key, q.RequestID
	switch r.IntN(10) {
	case 0, 1, 2:
		st.kind, st.acq = "acquire", q
		st.acq.Enqueue = r.IntN(4) > 0
		if r.IntN(8) == 0 {
			st.acq.Key = driver.KeyOf(fmt.Sprint("another key ", n))
		}
	case 3:
		st.kind = []string{"renew", "adopt"}[r.IntN(2)]
		st.ttl = time.Duration(45+r.IntN(15)) * time.Second
	case 4, 5, 6:
		st.kind = "release"
		switch r.IntN(4) {
		case 0:
			st.request = ""
		case 1:
			st.request = pick().RequestID
		}
	case 7:
		st.kind, st.attempt = "leave", r.IntN(2) == 0
		if r.IntN(4) == 0 {
			st.request = fmt.Sprint("late-", n)
			*known = append(*known, driver.AcquireRequest{LockID: lockID, OwnerID: "late", RequestID: st.request, Key: q.Key, TTL: time.Minute, PlaceTTL: time.Minute})
		}
	case 8:
		st.kind = "evict"
		if r.IntN(2) == 0 {
			st.cause = driver.CauseExpired
		}
	case 9:
		st.kind = "revoke"
	}
	switch r.IntN(10) {
	case 0:
		st.ref.Key = driver.KeyOf("wrong")
	case 1:
		st.stale = 1
	case 2, 3, 4:
		st.ref.Attach = int64(1 + r.IntN(2))
	}
	return st
}

// The short scripts decide what the general text decides, and both what the
// embedded store does, which was written apart from them.
func TestRandomHistoriesAgree(t *testing.T) {
	server := testenv.StartRedisT(t)
	fast := [2]*Store{openOn(t, server, "fast"), openOn(t, server, "fast")}
	slow := [2]*Store{openOn(t, server, "slow"), openOn(t, server, "slow")}
	c := server.Client()
	defer func() { _ = c.Close() }()
	for seed := range uint64(150) {
		m, err := embedded.NewMemory(embedded.Options{MinTTL: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		subjects := []*subject{
			{name: "redis", drivers: [2]driver.Driver{fast[0], fast[1]}},
			{name: "redis without its short scripts", drivers: [2]driver.Driver{general{slow[0]}, general{slow[1]}}},
			{name: "embedded", drivers: [2]driver.Driver{m.Open(), m.Open()}},
		}
		for _, s := range subjects {
			s.tokens = make(map[string]int64)
		}
		r := rand.New(rand.NewPCG(seed, 1))
		lockID := fmt.Sprintf("h/{%d}", seed)
		var known []driver.AcquireRequest
		var history []string
		compare := func() {
			if a, b := dump(t, c, fast, lockID), dump(t, c, slow, lockID); a != b {
				t.Fatalf("seed %d:\n%s\nwith the short scripts the store is\n%s\nand without\n%s", seed, strings.Join(history, "\n"), a, b)
			}
		}
		// The embedded store forgets ends earlier than Redis must.
		for n, ends := 0, 0; n < 60 && ends < driver.RememberedEnds-4; n++ {
			st := next(r, lockID, n, &known)
			if st.kind == "release" || st.kind == "leave" || st.kind == "evict" {
				ends++
			}
			var outcome, state [3]string
			for i, s := range subjects {
				outcome[i] = s.run(t.Context(), st)
				state[i] = s.state(t, lockID)
			}
			history = append(history, fmt.Sprintf("%s by driver %d of %s%s/%q: %s", st.kind, st.driver, st.grant, st.acq.RequestID, st.request, outcome[0]))
			for i := 1; i < 3; i++ {
				if outcome[i] != outcome[0] || state[i] != state[0] {
					t.Fatalf("seed %d:\n%s\n\n%s says %s\n%s\n%s says %s\n%s", seed, strings.Join(history, "\n"),
						subjects[0].name, outcome[0], state[0], subjects[i].name, outcome[i], state[i])
				}
			}
			if seed%4 == 0 {
				compare()
			}
		}
		compare()
	}
}

// dump is what the server keeps of a lock, without times and tokens.
func dump(t *testing.T, c *redis.Client, of [2]*Store, lockID string) string {
	t.Helper()
	p := of[0].shardPrefix(shardOf(lockID))
	var b strings.Builder
	line := func(format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		text = strings.ReplaceAll(strings.ReplaceAll(text, of[0].inbox, "inbox0"), of[1].inbox, "inbox1")
		b.WriteString(text + "\n")
	}
	record := c.HGetAll(t.Context(), p+"l:"+lockID).Val()
	line("format %q ticket %q", record["f"], record["s"])
	for h := range strings.SplitSeq(record["h"], recordSeparator) {
		if f := strings.Split(h, fieldSeparator); len(f) == 10 {
			line("holder %q", slices.Concat(f[1:3], f[4:]))
		}
	}
	for _, z := range c.ZRangeWithScores(t.Context(), p+"q:"+lockID, 0, -1).Val() {
		line("place %v %v: %q", z.Member, z.Score, c.HGet(t.Context(), p+"w:"+lockID, z.Member.(string)).Val())
	}
	line("waiters %d, deadlines %d", c.HLen(t.Context(), p+"w:"+lockID).Val(), c.ZCard(t.Context(), p+"d:"+lockID).Val())
	ends := make(map[string]string)
	for field, value := range record {
		if len(field) == 32 {
			ends[field] = value[32:]
		}
	}
	line("ends %v", ends)
	line("busy %v", c.ZScore(t.Context(), p+"i", lockID).Err() == nil)
	for _, kind := range []string{"l:", "q:", "w:", "d:"} {
		key := p + kind + lockID
		line("%s lives for ever: %v", kind, c.Exists(t.Context(), key).Val() == 1 && c.PTTL(t.Context(), key).Val() < 0)
	}
	return b.String()
}
