package dynamodb

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// patience bounds each wait for something that must come.
var patience = time.Minute

const table1 = "locks"

// at is a clock of the observers that a test sets.
type at struct{ now atomic.Int64 }

func (a *at) Now() driver.Instant { return driver.Instant(a.now.Load()) }

func (a *at) pass(d time.Duration) { a.now.Add(int64(d)) }

// options of a driver on an emulator, by way of an endpoint.
func options(e *testenv.Dynamo, endpoint string, change ...func(*Options)) Options {
	o := Options{
		Table: table1, Endpoint: endpoint, Create: true, AWS: aws.Config{Region: testenv.DynamoRegion, Credentials: e.Credentials()},
		Timeout: patience, // an emulator has one thread, and may share the machine
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

// open opens a driver for the length of a test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// started is an emulator with a driver on it.
func started(t testing.TB, change ...func(*Options)) (*testenv.Dynamo, *Store) {
	t.Helper()
	e := testenv.StartDynamoT(t)
	return e, open(t, options(e, e.Endpoint(), change...))
}

// request is an acquire for a minute by an owner of its own.
func request(lock, name string, change ...func(*driver.AcquireRequest)) *driver.AcquireRequest {
	r := &driver.AcquireRequest{
		LockID: lock, OwnerID: "owner of " + name, RequestID: name, Key: driver.KeyOf(name), TTL: time.Minute, PlaceTTL: time.Minute,
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func queued(r *driver.AcquireRequest) { r.Enqueue = true }

func shared(r *driver.AcquireRequest) { r.Shared = true }

func refOf(r *driver.AcquireRequest, l *driver.Lease) driver.LeaseRef {
	return driver.LeaseRef{LockID: r.LockID, Key: r.Key, Token: l.Token, Attach: l.Attach}
}

func granted(t testing.TB, d driver.Driver, r *driver.AcquireRequest) *driver.Lease {
	t.Helper()
	res, err := d.Acquire(t.Context(), r)
	if err != nil || res.Lease == nil {
		t.Fatalf("acquire %s: %+v, %v; want a grant", r.RequestID, res, err)
	}
	return res.Lease
}

func waiting(t testing.TB, d driver.Driver, r *driver.AcquireRequest) *driver.AcquireResult {
	t.Helper()
	r.Enqueue = true
	res, err := d.Acquire(t.Context(), r)
	if err != nil || res.Lease != nil {
		t.Fatalf("acquire %s: %+v, %v; want a place", r.RequestID, res, err)
	}
	return res
}

func refused(t testing.TB, d driver.Driver, r *driver.AcquireRequest) driver.HeldError {
	t.Helper()
	res, err := d.Acquire(t.Context(), r)
	var held *driver.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("acquire %s: %+v, %v; want it refused", r.RequestID, res, err)
	}
	return *held
}

func release(t testing.TB, d driver.Driver, r *driver.AcquireRequest, l *driver.Lease) {
	t.Helper()
	if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: r.RequestID}); err != nil {
		t.Fatalf("release %s: %v", r.RequestID, err)
	}
}

func renew(t testing.TB, d driver.Driver, r *driver.AcquireRequest, l *driver.Lease) *driver.Lease {
	t.Helper()
	renewed, err := d.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: r.TTL})
	if err != nil {
		t.Fatalf("renew %s: %v", r.RequestID, err)
	}
	return renewed
}

func inspect(t testing.TB, d driver.Driver, lock string) *driver.Lock {
	t.Helper()
	l, err := d.Inspect(t.Context(), lock)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func lost(t testing.TB, err error, cause driver.Cause) {
	t.Helper()
	var e *driver.LostError
	if !errors.As(err, &e) || e.Cause != cause {
		t.Errorf("error %v, want the lease lost: %s", err, cause)
	}
}

// tokens are the holders' of a lock.
func tokens(l *driver.Lock) (all []int64) {
	for _, h := range l.Holders {
		all = append(all, h.Token)
	}
	slices.Sort(all)
	return all
}

// put writes an item as it is.
func put(t testing.TB, s *Store, item map[string]value) {
	t.Helper()
	if h, ok := item["h"].(*types.AttributeValueMemberM); ok && h.Value == nil {
		h.Value = map[string]value{}
	}
	if _, err := s.client.PutItem(t.Context(), &sdk.PutItemInput{TableName: &s.o.Table, Item: item}); err != nil {
		t.Fatal(err)
	}
}
