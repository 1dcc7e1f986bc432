package postgres

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// What a lock's record becomes needs no server to be seen: it is a function of the
// record, the request and the time.

func acquire(r *record, owner string, now micros) (*driver.AcquireResult, error) {
	req := &driver.AcquireRequest{
		LockID: "orders/42", OwnerID: owner, RequestID: "request of " + owner, Key: driver.KeyOf(owner), TTL: time.Minute, PlaceTTL: time.Minute, Enqueue: true,
	}
	return r.acquire(req, req.TTL, time.Second, moment{now: now})
}

func TestTheQueueOfARowIsBounded(t *testing.T) {
	const now = micros(1_800_000_000_000_000)
	r := newRecord()
	for i := range maxWaiters + 1 { // the first one holds
		if _, err := acquire(r, fmt.Sprint(i), now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := acquire(r, "one more", now); !errors.Is(err, driver.ErrLimit) {
		t.Errorf("waiter %d was answered %v, want the limit", maxWaiters+1, err)
	}
	if res, err := acquire(r, fmt.Sprint(maxWaiters), now); err != nil || res.Position != maxWaiters {
		t.Errorf("the last waiter's repeat was answered %+v, %v; want place %d", res, err, maxWaiters)
	}
	if len(r.Places) != maxWaiters {
		t.Errorf("%d places", len(r.Places))
	}
}

func TestARowIsReadAsItWasWritten(t *testing.T) {
	const now = micros(1_800_000_000_000_000)
	r := newRecord()
	for _, owner := range []string{"one", "two \x00 \x1f ü", "three"} {
		if _, err := acquire(r, owner, now); err != nil {
			t.Fatal(err)
		}
	}
	r.prune(now.add(time.Minute))
	raw := r.encode()
	again, err := decode(raw)
	if err != nil || again.encode() != raw {
		t.Errorf("read %s, %v\nwritten %s", again.encode(), err, raw)
	}
	if len(again.Ends) != 1 || len(again.Untold) != 1 || len(again.Places) != 0 {
		t.Errorf("after a minute the row is %s", raw)
	}
}

func TestARowOfANewerFormatIsRefused(t *testing.T) {
	if r, err := decode(`{"format":2,"leases":{}}`); !errors.Is(err, driver.ErrFormat) {
		t.Errorf("read %+v, %v; want the format refused", r, err)
	}
	if r, err := decode(`{"format":1,"leases":[`); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("read %+v, %v; want it refused as damaged", r, err)
	}
}
