package embedded_test

import (
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

// BenchmarkAcquireRelease is one uncontended acquire and its release, each caller
// on a lock of its own: in memory, and in a file of the directory that TMPDIR
// names, alone and with 64 callers at a time, who share its transactions.
func BenchmarkAcquireRelease(b *testing.B) {
	for _, c := range []struct {
		name    string
		file    bool
		callers int
	}{{"memory", false, 1}, {"memory-64", false, 64}, {"file", true, 1}, {"file-64", true, 64}} {
		b.Run(c.name, func(b *testing.B) {
			o := embedded.Options{}
			if c.file {
				o.Path = filepath.Join(b.TempDir(), "locks.db")
			}
			d, err := embedded.New(o)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			b.ReportAllocs()
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			for caller := range c.callers {
				wg.Go(func() { cycles(b, d, strconv.Itoa(caller), &left) })
			}
			wg.Wait()
		})
	}
}

// cycles acquires and releases for as long as there are some left.
func cycles(b *testing.B, d *embedded.Driver, caller string, left *atomic.Int64) {
	key := driver.KeyOf("lease id")
	req := driver.AcquireRequest{LockID: "bench/" + caller, OwnerID: caller, Key: key, TTL: 10 * time.Second, PlaceTTL: time.Second}
	for n := 0; left.Add(-1) >= 0; n++ {
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
}
