package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

func acquireOf(owner string) *driver.AcquireRequest {
	return &driver.AcquireRequest{
		LockID: "orders/42", OwnerID: owner, RequestID: "request of " + owner, Key: driver.KeyOf("lease id of " + owner),
		TTL: 15 * time.Second, PlaceTTL: time.Minute,
	}
}

func ExampleNew() {
	d, err := embedded.New(embedded.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	res, err := d.Acquire(ctx, acquireOf("web-1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Lease.OwnerID, "holds", res.Lease.LockID)
	_, err = d.Acquire(ctx, acquireOf("web-2"))
	fmt.Println(errors.Is(err, driver.ErrHeld))
	// Output:
	// web-1 holds orders/42
	// true
}

func ExampleMemory_Open() {
	m, err := embedded.NewMemory(embedded.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	one, two := m.Open(), m.Open()
	ctx := context.Background()
	if _, err := one.Acquire(ctx, acquireOf("web-1")); err != nil {
		fmt.Println(err)
		return
	}
	waiting := acquireOf("web-2")
	waiting.Enqueue = true
	res, err := two.Acquire(ctx, waiting)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("web-2 waits at position", res.Position, "behind", res.Holder.OwnerID)
	// Output:
	// web-2 waits at position 1 behind web-1
}

func ExampleOpenURL() {
	u, err := url.Parse("embedded:?poll=500ms")
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := embedded.OpenURL(context.Background(), u, driver.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(d.Capabilities().Name, d.Capabilities().Poll)
	// Output:
	// embedded 500ms
}
