package etcd

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// Whether a transaction compares several places is chance in a case of the suite;
// here it is not.

// further flips the comparisons of places after the first one of a transaction.
type further struct{ on, met atomic.Bool }

func (f *further) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	txn, ok := req.(*pb.TxnRequest)
	if !ok || !f.on.Load() {
		return invoke(ctx, method, req, reply, cc, o...)
	}
	txn = proto.Clone(txn).(*pb.TxnRequest)
	places := 0
	for _, c := range txn.Compare {
		if c.Target != pb.Compare_MOD || !strings.Contains(string(c.Key), "/q/") {
			continue
		}
		if places++; places > 1 {
			c.Result = pb.Compare_NOT_EQUAL
			f.met.Store(true)
		}
	}
	return invoke(ctx, method, txn, reply, cc, o...)
}

// ahead is a clock that a test puts forward.
type ahead struct{ by atomic.Int64 }

func (a *ahead) Now() driver.Instant {
	return driver.BootClock.Now().Add(time.Duration(a.by.Load()))
}

func opened(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustQueue(t *testing.T, s *Store, lock, name string) {
	t.Helper()
	res, err := s.Acquire(t.Context(), ask(lock, name, inQueue))
	if err != nil || res.Lease != nil {
		t.Fatalf("%s: %+v, %v; want a place", name, res, err)
	}
}

// Places that are written together are written only if each of them is there.
func TestEachComparisonOfARefreshMatters(t *testing.T) {
	t.Parallel()
	e := testenv.StartEtcd(t, testenv.EtcdOptions{Members: 1})
	f := &further{}
	o := Options{Endpoints: e.Addrs(), Timeout: 15 * time.Second}
	other := opened(t, o)
	o.Dial = []grpc.DialOption{grpc.WithChainUnaryInterceptor(f.intercept)}
	s := opened(t, o)
	for lock, flipped := range map[string]bool{"as-it-is": false, "flipped": true} {
		mustGrant(t, s, ask(lock, "holder"))
		var batch []*refresh
		for _, name := range []string{"one", "two"} {
			mustQueue(t, s, lock, name)
			was := s.hints.place(lock, name)
			if was == nil {
				t.Fatalf("the place of %s is not known", name)
			}
			batch = append(batch, &refresh{was: *was, again: *was})
		}
		if err := other.Leave(t.Context(), &driver.LeaveRequest{LockID: lock, RequestID: "two"}); err != nil {
			t.Fatal(err)
		}
		f.on.Store(flipped)
		got := s.refreshes.write(lock, batch)
		f.on.Store(false)
		if got.err != nil || got.done != flipped || f.met.Load() != flipped {
			t.Errorf("%s: written %t, %v; want it so if it is flipped alone", lock, got.done, got.err)
		}
	}
}

// A newcomer passes over dead places only if each of them is as it was.
func TestEachComparisonOfANewPlaceMatters(t *testing.T) {
	t.Parallel()
	e := testenv.StartEtcd(t, testenv.EtcdOptions{Members: 1})
	f, clock := &further{}, &ahead{}
	s := opened(t, Options{
		Endpoints: e.Addrs(), Timeout: 15 * time.Second, Clock: clock, Dial: []grpc.DialOption{grpc.WithChainUnaryInterceptor(f.intercept)},
	})
	for lock, flipped := range map[string]bool{"as-it-is": false, "flipped": true} {
		mustGrant(t, s, ask(lock, "holder", func(r *driver.AcquireRequest) { r.TTL = time.Minute }))
		for _, name := range []string{"one", "two", "three"} {
			mustQueue(t, s, lock, name)
		}
		clock.by.Add(int64(time.Minute))
		f.on.Store(flipped)
		res, err := s.Acquire(t.Context(), ask(lock, "newcomer", inQueue))
		f.on.Store(false)
		if flipped {
			if !errors.Is(err, driver.ErrUnavailable) || !f.met.Load() {
				t.Errorf("flipped: %+v, %v", res, err)
			}
		} else if err != nil || res.Position != 1 {
			t.Errorf("%+v, %v; want the first place", res, err)
		}
	}
}
