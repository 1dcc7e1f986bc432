package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	histories      = 6
	historySteps   = 400
	historyBudget  = 40 * time.Second // of each six, so that no lease expires on a slow machine
	historyExcerpt = 30
)

func historyCases() []Case {
	return []Case{
		{Name: "Histories/RandomOnesMatchTheModel", Guarantee: "In random histories of every operation, each answer is the one that the contract describes.", Busy: true,
			Run: func(t *T) {
				deadline := t.now().Add(historyBudget)
				for n := range t.times(histories) {
					if n%histories == 0 {
						deadline = t.now().Add(historyBudget)
					}
					h := &history{t: t, deadline: deadline, rng: rand.New(rand.NewPCG(t.seed, uint64(n))), number: n}
					h.run(fmt.Sprint("h", n))
				}
			}},
	}
}

// history is a random sequence of operations, applied to the driver and to the
// model. Its choices rest on the seed and on the model's state alone.
type history struct {
	t      *T
	rng    *rand.Rand
	number int
	// deadline ends the case early on a slow machine: what ran is proven.
	deadline driver.Instant
	drivers  []driver.Driver
	locks    []*historyLock
	// requests are all acquires so far, by their ids.
	requests map[string]*driver.AcquireRequest
	// left are the attempts that were left. A driver may remember them for
	// longer than it must.
	left map[attempt]bool
}

type attempt struct {
	request string
	key     driver.Key
}

type historyLock struct {
	model
	id  string
	log []string
}

func (h *history) run(name string) {
	h.requests, h.left = make(map[string]*driver.AcquireRequest), make(map[attempt]bool)
	h.drivers = []driver.Driver{h.t.D}
	if h.t.can(NeedKeys) { // else only the driver that acquired knows the lease ids
		h.drivers = append(h.drivers, h.t.Open())
	}
	for i := range 2 {
		h.locks = append(h.locks, &historyLock{id: h.t.Lock(fmt.Sprint(name, "/", i))})
	}
	steps := []func(*historyLock, driver.Driver){h.try, h.try, h.repeat, h.repeat, h.renew, h.release, h.release, h.release, h.leave, h.revoke}
	if h.t.can(NeedPlaces) {
		steps = append(steps, h.queue, h.queue, h.queue, h.queue, h.repeat, h.repeat)
	}
	if h.t.can(NeedKeys) {
		steps = append(steps, h.reenter, h.reenter)
	}
	if h.t.can(NeedAttach) {
		steps = append(steps, h.adopt)
	}
	if h.t.can(NeedEvict) {
		steps = append(steps, h.evict)
	}
	for i := 0; i < historySteps && h.t.now() < h.deadline; i++ {
		lock, d := pick(h.rng, h.locks), pick(h.rng, h.drivers)
		pick(h.rng, steps)(lock, d)
		if i%5 == 0 {
			attach := h.t.can(NeedAttach)
			h.compare(lock, "inspect", stateText(h.t.Inspect(d, lock.id), attach), lock.state(attach))
		}
	}
}

func pick[E any](rng *rand.Rand, from []E) E { return from[rng.IntN(len(from))] }

// compare ends the case at the first difference, with what led to it.
func (h *history) compare(l *historyLock, what, got, want string) {
	if what != "inspect" || got != want {
		l.log = append(l.log, what+" = "+got)
	}
	if got != want {
		h.t.Fatalf("seed %d, history %d: %s\n was answered %q,\n     the model %q; the history of this lock:\n  %s", h.t.seed, h.number,
			what, got, want, strings.Join(l.log[max(0, len(l.log)-historyExcerpt):], "\n  "))
	}
}

func (h *history) request(l *historyLock) *driver.AcquireRequest {
	r := h.t.Request(l.id, pick(h.rng, []string{"ann", "bob", "cid", "dot", "eve"}))
	r.Shared = h.t.caps.Shared && h.rng.IntN(2) == 0
	r.Priority = pick(h.rng, []int{0, 0, 0, 1, 2})
	h.requests[r.RequestID] = r
	return r
}

func (h *history) acquire(l *historyLock, d driver.Driver, r *driver.AcquireRequest) {
	res, err := d.Acquire(h.t.ctx, r)
	var token int64
	if err == nil && res.Lease != nil {
		token = res.Lease.Token
	}
	want := l.acquire(r, token)
	got := ""
	switch {
	case err != nil:
		got = errorText(err)
	case res.Lease != nil:
		got = h.t.leaseOf(res.Lease, &l.model)
	default:
		got = fmt.Sprintf("place %d of %d", res.Position, res.QueueLength)
	}
	h.compare(l, fmt.Sprintf("acquire %s by %s (shared %v, priority %d, enqueue %v, reentrant %v, key %.4s)",
		r.RequestID, r.OwnerID, r.Shared, r.Priority, r.Enqueue, r.Reentrant, r.Key), got, want)
}

func (h *history) try(l *historyLock, d driver.Driver) { h.acquire(l, d, h.request(l)) }

func (h *history) queue(l *historyLock, d driver.Driver) {
	r := h.request(l)
	r.Enqueue = true
	h.acquire(l, d, r)
}

// reenter asks for a further hold, with the lease's key or another's.
func (h *history) reenter(l *historyLock, d driver.Driver) {
	if len(l.holders) == 0 {
		return
	}
	holder, r := pick(h.rng, l.holders), h.request(l)
	r.Reentrant, r.Enqueue = true, h.rng.IntN(3) == 0
	if h.rng.IntN(4) > 0 {
		r.OwnerID, r.Shared, r.Key = holder.owner, holder.shared, holder.key
	}
	h.acquire(l, d, r)
}

// known is a request that holds, waits, or has ended not long ago.
func (h *history) known(l *historyLock) string {
	var ids []string
	for _, holder := range l.holders {
		ids = append(ids, holder.holds...)
	}
	for _, p := range l.waiters {
		ids = append(ids, p.req.RequestID)
	}
	for _, e := range l.ends {
		ids = append(ids, e.request)
	}
	if len(ids) == 0 {
		return ""
	}
	return pick(h.rng, ids)
}

func (h *history) repeat(l *historyLock, d driver.Driver) {
	r := h.requests[h.known(l)]
	if r == nil {
		return
	}
	again := *r
	if r.Enqueue && h.rng.IntN(6) == 0 {
		again.Enqueue = false
	}
	if h.t.can(NeedKeys) && h.t.can(NeedAttach) && h.rng.IntN(6) == 0 {
		again.Key = driver.KeyOf(h.t.unique("key"))
	}
	if h.left[attempt{again.RequestID, again.Key}] {
		if _, remembered := l.end(func(e modelEnd) bool { return e.ends(again.RequestID, again.Key) }); !remembered {
			return // the driver may or may not
		}
	}
	h.acquire(l, d, &again)
}

// ref is a lease that stands or ended not long ago, sometimes with a flaw, and
// one of its holds.
func (h *history) ref(l *historyLock) (ref driver.LeaseRef, request string, ok bool) {
	type candidate struct {
		ref     driver.LeaseRef
		request string
	}
	var all []candidate
	for _, holder := range l.holders {
		r := driver.LeaseRef{LockID: l.id, Key: holder.key, Token: holder.token}
		if h.t.can(NeedAttach) {
			r.Attach = pick(h.rng, []int64{0, holder.attach, holder.attach, max(holder.attach-1, 1)})
		}
		all = append(all, candidate{r, pick(h.rng, holder.holds)}, candidate{r, pick(h.rng, holder.holds)})
	}
	for _, e := range l.ends {
		if e.token != 0 {
			all = append(all, candidate{driver.LeaseRef{LockID: l.id, Key: e.key, Token: e.token}, e.request})
		}
	}
	if len(all) == 0 {
		return ref, "", false
	}
	c := pick(h.rng, all)
	switch h.rng.IntN(12) {
	case 0:
		c.ref.Key = driver.KeyOf("guessed")
	case 1:
		c.ref.Token = 1
	case 2:
		c.request = ""
	}
	return c.ref, c.request, true
}
