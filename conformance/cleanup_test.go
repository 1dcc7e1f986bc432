package conformance

import (
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func TestViolationsOfALocksState(t *testing.T) {
	holder := func(token int64, shared bool) driver.Holder {
		return driver.Holder{OwnerID: "one", Token: token, Shared: shared, HoldCount: 1, Remaining: time.Second}
	}
	place := func(position int, ticket int64, priority int) driver.Waiter {
		return driver.Waiter{OwnerID: "two", Position: position, Ticket: ticket, Priority: priority}
	}
	for _, c := range []struct {
		name string
		lock driver.Lock
		want string
	}{
		{"free", driver.Lock{Token: 3}, ""},
		{"shared holders and a queue", driver.Lock{
			Token: 4, Holders: []driver.Holder{holder(3, true), holder(4, true)},
			Waiters: []driver.Waiter{place(1, 9, 1), place(2, 2, 0), place(3, 3, 0)},
		}, ""},
		{"two exclusive", driver.Lock{Token: 4, Holders: []driver.Holder{holder(3, false), holder(4, false)}}, "is exclusive"},
		{"one token twice", driver.Lock{Token: 4, Holders: []driver.Holder{holder(4, true), holder(4, true)}}, "two holders with the token 4"},
		{"token above the lock's", driver.Lock{Token: 4, Holders: []driver.Holder{holder(5, false)}}, "the lock's highest is 4"},
		{"expired holder", driver.Lock{Token: 4, Holders: []driver.Holder{{OwnerID: "one", Token: 4, HoldCount: 1}}}, "0s left"},
		{"wrong position", driver.Lock{Waiters: []driver.Waiter{place(2, 1, 0)}}, "stands at 1"},
		{"wrong order", driver.Lock{Waiters: []driver.Waiter{place(1, 2, 0), place(2, 1, 0)}}, "stands before"},
		{"overtaken by too many", driver.Lock{Waiters: []driver.Waiter{place(1, 1, 0), place(2, 2, 1)}}, "stands before"},
	} {
		got := strings.Join(violations(&c.lock), "; ")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, got, c.want)
		}
	}
}
