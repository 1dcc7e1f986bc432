package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func dial(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// rate is operations in a second; an acquire is one, and its release is one.
type rate float64

// unary drives Acquire and Release from inFlight goroutines, each on a lock of
// its own.
func unary(ctx context.Context, c lockpb.LockServiceClient, o options) (rate, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ops atomic.Int64
	var failure atomic.Value
	var stopped atomic.Bool
	var wg sync.WaitGroup
	start := time.Now()
	for i := range o.inFlight {
		wg.Go(func() {
			lock := "bench/unary/" + strconv.Itoa(i)
			for n := 0; !stopped.Load(); n++ {
				l, err := c.Acquire(ctx, &lockpb.AcquireRequest{LockId: lock, OwnerId: "bench", RequestId: requestID(i, n)})
				if err == nil {
					_, err = c.Release(ctx, &lockpb.ReleaseRequest{
						LockId: lock, LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(),
					})
				}
				if err != nil {
					failure.Store(err)
					return
				}
				ops.Add(2)
			}
		})
	}
	wait(ctx, o.duration)
	stopped.Store(true)
	took := time.Since(start)
	total := ops.Load()
	wg.Wait()
	if err, _ := failure.Load().(error); err != nil {
		return 0, fmt.Errorf("unary: %w", err)
	}
	return rate(float64(total) / took.Seconds()), nil
}

// stream drives one Hold stream with inFlight requests in flight: each answer
// sends the next request of its lock.
func stream(ctx context.Context, c lockpb.LockServiceClient, o options) (rate, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.Hold(ctx)
	if err != nil {
		return 0, err
	}
	out := make(chan *lockpb.HoldRequest, o.inFlight)
	var sender sync.WaitGroup
	sender.Go(func() {
		for r := range out {
			if s.Send(r) != nil {
				return // Recv reports why
			}
		}
	})
	for i := range o.inFlight {
		out <- streamAcquire(i, 0)
	}
	start := time.Now()
	var ops, serial, pending int
	pending = o.inFlight
	for pending > 0 {
		r, err := s.Recv()
		if err != nil {
			close(out)
			sender.Wait()
			return 0, fmt.Errorf("stream: %w", err)
		}
		running := time.Since(start) < o.duration
		switch e := r.GetEvent().(type) {
		case *lockpb.HoldResponse_Granted:
			out <- &lockpb.HoldRequest{Request: &lockpb.HoldRequest_Release{Release: &lockpb.ReleaseRequest{
				LockId: r.GetLockId(), LeaseId: e.Granted.GetLeaseId(), FencingToken: e.Granted.GetFencingToken(), RequestId: r.GetRequestId(),
			}}}
		case *lockpb.HoldResponse_Released:
			if !running {
				pending--
				continue
			}
			serial++
			lock, _ := strconv.Atoi(r.GetLockId()[len(streamPrefix):])
			out <- streamAcquire(lock, serial)
		default:
			close(out)
			sender.Wait()
			return 0, fmt.Errorf("stream: unexpected event %v", r)
		}
		if running {
			ops++
		}
	}
	close(out)
	sender.Wait()
	return rate(float64(ops) / o.duration.Seconds()), nil
}

const streamPrefix = "bench/stream/"

func streamAcquire(lock, n int) *lockpb.HoldRequest {
	return &lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{
		LockId: streamPrefix + strconv.Itoa(lock), OwnerId: "bench", RequestId: requestID(lock, n),
	}}}
}

// run makes request ids of one process differ from those of the next.
var runID = strconv.FormatInt(time.Now().UnixNano(), 36)

var requests atomic.Int64

func requestID(lock, n int) string {
	return runID + "-" + strconv.Itoa(lock) + "-" + strconv.Itoa(n) + "-" + strconv.FormatInt(requests.Add(1), 36)
}

// hold takes n leases over one stream and returns what ends them.
func hold(ctx context.Context, c lockpb.LockServiceClient, n int) (release func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := c.Hold(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			r := streamAcquire(i, 0)
			r.GetAcquire().LockId = "bench/held/" + strconv.Itoa(i)
			if err := s.Send(r); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for range n {
		r, err := s.Recv()
		if err == nil && r.GetGranted() == nil {
			err = fmt.Errorf("hold: unexpected event %v", r)
		}
		if err != nil {
			cancel()
			return nil, err
		}
	}
	if err := <-sent; err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := s.Recv(); err != nil {
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}, nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
