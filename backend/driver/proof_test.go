package driver_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func TestWhichLeaseIsProven(t *testing.T) {
	leases := []driver.Proof{{Token: 7, Key: "a", Attach: 2}, {Token: 8, Key: "b", Attach: 1}}
	for _, c := range []struct {
		name  string
		ref   driver.LeaseRef
		token int64
		err   error
	}{
		{"an attachment", driver.LeaseRef{Token: 8, Key: "b", Attach: 1}, 8, nil},
		{"the application", driver.LeaseRef{Token: 7, Key: "a"}, 7, nil},
		{"a fenced attachment", driver.LeaseRef{Token: 7, Key: "a", Attach: 1}, 0, &driver.LostError{Cause: driver.CauseReattached}},
		{"another key", driver.LeaseRef{Token: 7, Key: "x", Attach: 1}, 0, driver.ErrNotOwner},
		{"another lease's key", driver.LeaseRef{Token: 8, Key: "a"}, 0, driver.ErrNotOwner},
		{"a stale token", driver.LeaseRef{Token: 5, Key: "b"}, 0, &driver.TokenError{Expected: 8, Actual: 5}},
		{"a lease that ended", driver.LeaseRef{Token: 5, Key: "x"}, 0, &driver.LostError{Cause: driver.CauseExpired}},
	} {
		got, err := driver.Proven(c.ref, leases, func(p driver.Proof) driver.Proof { return p }, func() driver.Cause { return driver.CauseExpired })
		if got.Token != c.token {
			t.Errorf("%s proves the lease %d, want %d", c.name, got.Token, c.token)
		}
		if !reflect.DeepEqual(err, c.err) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.err)
		}
	}
	if _, err := driver.Proven(driver.LeaseRef{Token: 5, Key: "x"}, leases[:0], func(p driver.Proof) driver.Proof { return p }, func() driver.Cause { return driver.CauseUnknown }); !errors.Is(err, driver.ErrLost) {
		t.Errorf("of a free lock: %v, want it lost", err)
	}
}
