package conformance

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// leakLabel marks the goroutines of a case.
	leakLabel = "conformance case"
	// leakPatience is how long goroutines may take to end after Close.
	leakPatience = 15 * time.Second
	// inspected bounds the locks of a case that are looked at when it ends.
	inspected = 50
)

// leaked waits until no goroutine that the case started is left, and returns
// the stacks of those that remain.
func leaked(label string) []string {
	for deadline := time.Now().Add(leakPatience); ; time.Sleep(5 * time.Millisecond) {
		left := labelled(label)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// apart runs f so that what it starts is not the case's: a harness may start what
// outlives the case.
func apart(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		pprof.SetGoroutineLabels(context.Background())
		f()
	}()
	<-ended
}

// labelled lists the stacks of the goroutines with the label. The text of a
// goroutine profile is the only place that shows labels.
func labelled(label string) (stacks []string) {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		return []string{err.Error()}
	}
	for block := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(block, fmt.Sprintf("%q:%q", leakLabel, label)) {
			stacks = append(stacks, block)
		}
	}
	return stacks
}

// invariants looks at the locks that the case used: whatever happened to them,
// their state must be one that the contract allows.
func (t *T) invariants() {
	if t.D == nil {
		return
	}
	t.mu.Lock()
	var locks []string
	for id := range t.locks {
		if len(locks) < inspected && !strings.HasSuffix(id, "/") { // not a prefix
			locks = append(locks, id)
		}
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, id := range locks {
		l, err := t.D.Inspect(ctx, id)
		if err != nil {
			t.Errorf("inspecting %q at the end of the case: %v", id, err)
			return
		}
		for _, violation := range violations(l) {
			t.Errorf("%q at the end of the case: %s", id, violation)
		}
	}
}

// violations lists what is impossible in a lock's state.
func violations(l *driver.Lock) (found []string) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	tokens := make(map[int64]bool)
	for _, h := range l.Holders {
		if len(l.Holders) > 1 && !h.Shared {
			say("%d holders, of which %s is exclusive", len(l.Holders), h.OwnerID)
		}
		if tokens[h.Token] {
			say("two holders with the token %d", h.Token)
		}
		tokens[h.Token] = true
		if h.Token > l.Token || h.Token <= 0 {
			say("the holder %s has the token %d, the lock's highest is %d", h.OwnerID, h.Token, l.Token)
		}
		if h.Remaining <= 0 || h.HoldCount < 1 {
			say("the holder %s has %d holds and %v left", h.OwnerID, h.HoldCount, h.Remaining)
		}
	}
	for i, w := range l.Waiters {
		if w.Position != i+1 {
			say("the waiter %s is told the position %d, stands at %d", w.OwnerID, w.Position, i+1)
		}
		if i == 0 || w.Ticket == 0 { // an endpoint of an older version hides the tickets
			continue
		}
		before := l.Waiters[i-1]
		a, b := driver.OrderKey(before.Ticket, before.Priority), driver.OrderKey(w.Ticket, w.Priority)
		if a > b || a == b && before.Ticket >= w.Ticket {
			say("the waiter %s (ticket %d, priority %d) stands before %s (ticket %d, priority %d)",
				before.OwnerID, before.Ticket, before.Priority, w.OwnerID, w.Ticket, w.Priority)
		}
	}
	return found
}
