package etcd_test

import (
	"slices"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// waited are the requests that a call waits for one after the other: a keep-alive
// goes beside a transaction.
func waited(p *testenv.EtcdProxy, from int) []string {
	return slices.DeleteFunc(p.Requests()[from:], func(method string) bool { return method == "LeaseKeepAlive" })
}

// An uncontended acquire and its release are one transaction each once there is an
// etcd lease to be used again, whether the lock is new or was this driver's last; a
// first lease, and a lock that was another's, take one request more. A renewal
// writes nothing.
func TestRoundTripsOfAnUncontendedLock(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	proxy := testenv.StartEtcdProxy(t, e.Members[0].Addr())
	d, other := openAt(t, proxy.URL(), "timeout=10s"), openAt(t, e.URL(), "timeout=10s")
	cycle := func(lock string) (acquire, renew, release []string) {
		t.Helper()
		r := asked(lock, "one")
		from := len(proxy.Requests())
		l := granted(t, d, r)
		acquire = waited(proxy, from)
		from = len(proxy.Requests())
		if _, err := renewed(t, d, refOf(r, l), r.TTL); err != nil {
			t.Fatal(err)
		}
		renew = waited(proxy, from)
		from = len(proxy.Requests())
		released(t, d, r, l)
		return acquire, renew, waited(proxy, from)
	}
	check := func(what, lock string, want ...string) {
		t.Helper()
		acquire, renew, release := cycle(lock)
		if !slices.Equal(acquire, want) {
			t.Errorf("%s: an acquire takes %v, want %v", what, acquire, want)
		}
		if want := []string{"Txn"}; !slices.Equal(renew, want) || !slices.Equal(release, want) {
			t.Errorf("%s: a renewal takes %v, a release %v, want %v", what, renew, release, want)
		}
	}
	cycle("warm") // connects, and stamps the store
	check("a new lock", "new", "Txn")
	check("the lock that this driver had last", "new", "Txn")

	first := asked("held", "holder")
	l := granted(t, d, first)
	check("a lock beside one that is held", "beside", "LeaseGrant", "Txn")
	released(t, d, first, l)

	theirs := asked("theirs", "other")
	released(t, other, theirs, granted(t, other, theirs))
	check("a lock that another driver had last", "theirs", "Txn", "Txn")
}

// Many leases are renewed by keep-alives on one stream and few reads.
func TestManyLeasesAreRenewedTogether(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	proxy := testenv.StartEtcdProxy(t, e.Members[0].Addr())
	d := openAt(t, proxy.URL(), "timeout=10s")
	const n, ttl = 150, 2 * time.Minute
	reqs := make([]driver.RenewRequest, n)
	for i := range reqs {
		r := lasting(asked("many/"+string(rune('a'+i%26))+string(rune('a'+i/26)), "one"), ttl)
		reqs[i] = driver.RenewRequest{LeaseRef: refOf(r, granted(t, d, r)), TTL: ttl}
	}
	from := len(proxy.Requests())
	for i, res := range driver.RenewMany(t.Context(), d, reqs) {
		if res.Err != nil || res.Lease.Remaining < ttl || res.Lease.Token != reqs[i].Token {
			t.Fatalf("lease %d: %+v, %v", i, res.Lease, res.Err)
		}
	}
	if got := waited(proxy, from); len(got) > 3 {
		t.Errorf("%d leases took the requests %v", n, got)
	}
	if got := len(proxy.Requests()) - from; got > n+3 {
		t.Errorf("%d leases took %d messages", n, got)
	}
}

// Two renewals of one lease at once are both answered.
func TestTwoRenewalsOfOneLeaseAtOnce(t *testing.T) {
	t.Parallel()
	d := openAt(t, start(t, 1).URL())
	r := asked("a", "one")
	ref := refOf(r, granted(t, d, r))
	answers := make(chan error)
	for range 32 {
		go func() {
			_, err := d.Renew(t.Context(), &driver.RenewRequest{LeaseRef: ref, TTL: ttl})
			answers <- err
		}()
	}
	for range 32 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}

// A renewal to a longer time puts the lease under another etcd lease; one to a
// shorter leaves it as it is, and says so.
func TestARenewalChangesTheTime(t *testing.T) {
	t.Parallel()
	d := openAt(t, start(t, 1).URL())
	r := lasting(asked("a", "one"), 5*time.Second)
	l := granted(t, d, r)
	for _, c := range []struct{ asks, gets time.Duration }{{20 * time.Second, 20 * time.Second}, {5 * time.Second, 20 * time.Second}, {30*time.Second - 1, 30 * time.Second}} {
		again, err := renewed(t, d, refOf(r, l), c.asks)
		if err != nil || again.TTL != c.gets || again.Remaining != c.gets || again.Token != l.Token || again.Attach != l.Attach {
			t.Errorf("renewed to %v: %+v, %v; want %v", c.asks, again, err, c.gets)
		}
	}
	released(t, d, r, l)
}
