package renew

import (
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// slot is the wheel's resolution. An entry fires up to one slot early,
	// never late by design: early is the safe side of a valid-until.
	slot = 10 * time.Millisecond
	// slots cover more than the longest TTL, so that no entry laps the wheel.
	slots = 8192
	// longestSleep is how often the clock is looked at while nothing is due:
	// the wheel's clock may jump (a suspend), and timers do not see that.
	longestSleep = time.Second
)

// wheel is a timing wheel: leases by the moment at which somebody has to look
// at them. Adding and removing cost the same for ten leases and ten thousand.
// (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987; the
// simple form suffices, because every deadline is within the longest TTL.)
type wheel struct {
	mu sync.Mutex
	// next is the number of the first slot that has not fired.
	next  int64
	lists [slots]entry
	n     int
	// wakeAt is the slot for which the scheduler sleeps.
	wakeAt int64
	poke   chan struct{}
}

// entry is a place in a slot's list; it is embedded in a lease.
type entry struct {
	prev, succ *entry
	lease      *lease
}

func newWheel(now driver.Instant) *wheel {
	w := &wheel{next: slotOf(now), poke: make(chan struct{}, 1)}
	for i := range w.lists {
		head := &w.lists[i]
		head.prev, head.succ = head, head
	}
	return w
}

func slotOf(i driver.Instant) int64 { return int64(i) / int64(slot) }

// set moves the lease to the moment at, from wherever it was.
func (w *wheel) set(l *lease, at driver.Instant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(&l.entry)
	s := min(max(slotOf(at), w.next), w.next+slots-1)
	head := &w.lists[s%slots]
	e := &l.entry
	e.lease = l
	e.prev, e.succ = head.prev, head
	head.prev.succ, head.prev = e, e
	w.n++
	if s < w.wakeAt {
		w.wakeAt = s
		select {
		case w.poke <- struct{}{}:
		default:
		}
	}
}

// remove takes the lease off the wheel.
func (w *wheel) remove(l *lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(&l.entry)
}

func (w *wheel) unlink(e *entry) {
	if e.succ == nil {
		return
	}
	e.prev.succ, e.succ.prev = e.succ, e.prev
	e.prev, e.succ = nil, nil
	w.n--
}

// fire takes off every lease that is due at now, and returns how long to sleep
// until the next one.
func (w *wheel) fire(now driver.Instant) (due []*lease, sleep time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	current := slotOf(now)
	if current-w.next >= slots {
		w.next = current - slots + 1 // the clock jumped: every slot is due once
	}
	for ; w.next <= current; w.next++ {
		head := &w.lists[w.next%slots]
		for head.succ != head {
			due = append(due, head.succ.lease)
			w.unlink(head.succ)
		}
	}
	w.wakeAt = current + int64(longestSleep/slot)
	if w.n > 0 {
		for s := w.next; s < w.wakeAt; s++ {
			if head := &w.lists[s%slots]; head.succ != head {
				w.wakeAt = s
				break
			}
		}
	}
	return due, max(driver.Instant(w.wakeAt*int64(slot)).Sub(now), time.Millisecond)
}

// schedule is the one scheduler: it looks at each lease when it is due.
func (k *Keeper) schedule() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-k.wheel.poke:
		case <-k.running.Done():
			return
		}
		due, sleep := k.wheel.fire(k.o.Clock.Now())
		var batch []attempt
		for _, l := range due {
			if a, renew := l.look(); renew {
				batch = append(batch, a)
			}
			if len(batch) == batchSize {
				k.queue.put(batch)
				batch = nil
			}
		}
		k.queue.put(batch)
		t.Reset(sleep)
	}
}
