package redis_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// BenchmarkAcquireRelease drives 64 acquires and releases in flight, as a
// sidecar under load does.
func BenchmarkAcquireRelease(b *testing.B) {
	server := testenv.StartRedisT(b)
	o := redis.Options{New: true}
	o.Client.Addr = server.Addr()
	d, err := redis.New(o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	free := make(chan int, 64)
	for i := range 64 {
		free <- i
	}
	for i := 0; b.Loop(); i++ {
		lock := <-free
		request := "request-" + strconv.Itoa(i)
		r := &driver.AcquireRequest{
			LockID: "bench/" + strconv.Itoa(lock), OwnerID: "bench", RequestID: request, Key: driver.KeyOf(request),
			TTL: 15 * time.Second, PlaceTTL: 6 * time.Second,
		}
		d.AcquireAsync(b.Context(), r, func(res *driver.AcquireResult, err error) {
			if err != nil {
				b.Error(err)
				free <- lock
				return
			}
			ref := driver.LeaseRef{LockID: r.LockID, Key: r.Key, Token: res.Lease.Token, Attach: res.Lease.Attach}
			d.ReleaseAsync(b.Context(), &driver.ReleaseRequest{LeaseRef: ref, RequestID: request}, func(_ *driver.ReleaseResult, err error) {
				if err != nil {
					b.Error(err)
				}
				free <- lock
			})
		})
	}
	for range 64 {
		<-free
	}
	b.Log(server.Must(b, "INFO", "commandstats"))
}
