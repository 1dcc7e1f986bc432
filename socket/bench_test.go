package socket_test

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// inFlight is how many operations the benchmarks have under way.
const inFlight = 64

// BenchmarkAcquireRelease is a pair of unary calls.
func BenchmarkAcquireRelease(b *testing.B) {
	s := start(b, socket.Options{Logger: slog.New(slog.DiscardHandler)}, nil)
	c := dial(b, s.path)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for w := range inFlight {
		wg.Go(func() {
			id := "bench/" + strconv.Itoa(w)
			for next.Add(1) <= int64(b.N) {
				l, err := c.Acquire(context.Background(), &lockpb.AcquireRequest{LockId: id})
				if err == nil {
					_, err = c.Release(context.Background(), &lockpb.ReleaseRequest{LockId: id, LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()})
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkHold is the same pair on one stream.
func BenchmarkHold(b *testing.B) {
	s := start(b, socket.Options{Logger: slog.New(slog.DiscardHandler)}, nil)
	h := dial(b, s.path).hold(b)
	b.ReportAllocs()
	b.ResetTimer()
	acquire := func(i int) {
		id := strconv.Itoa(i)
		h.acquire(&lockpb.AcquireRequest{LockId: "bench/" + strconv.Itoa(i%inFlight), RequestId: id, OwnerId: id})
	}
	started := min(inFlight, b.N)
	for i := range started {
		acquire(i)
	}
	for done := 0; done < b.N; {
		switch r := h.next(); {
		case r.GetGranted() != nil:
			h.release(&lockpb.ReleaseRequest{LockId: r.GetLockId(), RequestId: r.GetRequestId()})
		case r.GetReleased() != nil:
			if done++; started < b.N {
				acquire(started)
				started++
			}
		case r.GetError() != nil:
			b.Fatal(r)
		}
	}
}
