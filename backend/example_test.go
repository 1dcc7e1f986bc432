package backend_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

// A lease is taken, checked against its own validity, and given back.
func ExampleNew() {
	d, err := embedded.New(embedded.Options{})
	if err != nil {
		log.Fatal(err)
	}
	s := backend.New(d, backend.Options{})
	defer func() { _ = s.Close() }()
	ctx := context.Background()

	l, err := s.Acquire(ctx, &backend.AcquireRequest{LockID: "payments/eu/7", OwnerID: "worker-1", TTL: 10 * time.Second, Wait: 2 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	if driver.BootClock.Now() < l.ValidUntil {
		fmt.Println(l.OwnerID, "works under token", l.Token > 0)
	}
	_, err = s.Acquire(ctx, &backend.AcquireRequest{LockID: "payments/eu/7", OwnerID: "worker-2"})
	fmt.Println("worker-2 is refused:", err != nil)

	res, err := s.Release(ctx, &backend.ReleaseRequest{LeaseRef: l.Ref(false)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("holds left:", res.HoldCount)
	// Output:
	// worker-1 works under token true
	// worker-2 is refused: true
	// holds left: 0
}

// Drivers are opened by the schemes of their URLs.
func ExampleMux() {
	var m backend.Mux
	m.Register([]string{"embedded"}, embedded.OpenURL)

	d, err := m.Open(context.Background(), "embedded:?poll=1s", driver.Env{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Capabilities().Name)
	_ = d.Close()

	_, err = m.Open(context.Background(), "memcached://cache:11211", driver.Env{})
	fmt.Println(err)
	// Output:
	// embedded
	// backend URL memcached://cache:11211: invalid: unknown scheme "memcached"; known are embedded
}
