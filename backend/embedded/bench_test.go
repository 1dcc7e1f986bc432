package embedded_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

// BenchmarkAcquireRelease is one uncontended acquire and its release, each
// goroutine on a lock of its own.
func BenchmarkAcquireRelease(b *testing.B) {
	d, err := embedded.New(embedded.Options{})
	if err != nil {
		b.Fatal(err)
	}
	key := driver.KeyOf("lease id")
	var workers atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		worker := strconv.FormatInt(workers.Add(1), 10)
		req := driver.AcquireRequest{LockID: "bench/" + worker, OwnerID: worker, Key: key, TTL: 10 * time.Second, PlaceTTL: time.Second}
		for n := 0; p.Next(); n++ {
			req.RequestID = strconv.Itoa(n)
			res, err := d.Acquire(b.Context(), &req)
			if err != nil || res.Lease == nil {
				b.Errorf("acquire: %+v, %v", res, err)
				return
			}
			if _, err := d.Release(b.Context(), &driver.ReleaseRequest{
				LeaseRef: driver.LeaseRef{LockID: req.LockID, Key: key, Token: res.Lease.Token, Attach: res.Lease.Attach}, RequestID: req.RequestID,
			}); err != nil {
				b.Errorf("release: %v", err)
				return
			}
		}
	})
}
