package redis_test

import (
	"context"
	"fmt"
	"log"
	"net/url"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// A driver is opened by options and used through the contract of package driver.
func ExampleNew() {
	ctx := context.Background()
	server, err := testenv.StartRedis(ctx, testenv.RedisOptions{}) // any server
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = server.Stop() }()

	o := redis.Options{Prefix: "shop", New: true} // it lost nothing
	o.Client.Addr = server.Addr()
	d, err := redis.New(o)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = d.Close() }()

	res, err := d.Acquire(ctx, &driver.AcquireRequest{
		LockID: "invoices/42", OwnerID: "worker-1", RequestID: "request-1", Key: driver.KeyOf("a secret lease id"), TTL: 15 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	l := res.Lease
	fmt.Println(l.OwnerID, "holds", l.LockID, "for", l.TTL)
	ref := driver.LeaseRef{LockID: l.LockID, Key: driver.KeyOf("a secret lease id"), Token: l.Token}
	released, err := d.Release(ctx, &driver.ReleaseRequest{LeaseRef: ref})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("holds left:", released.HoldCount)
	// Output:
	// worker-1 holds invoices/42 for 15s
	// holds left: 0
}

// A backend URL opens the driver without connecting; what is wrong with it is
// said at once.
func ExampleOpenURL() {
	u, err := url.Parse("redis://locks:secret@127.0.0.1:6379?prefix=shop&timeout=1s")
	if err != nil {
		log.Fatal(err)
	}
	d, err := redis.OpenURL(context.Background(), u, driver.Env{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Capabilities().Name)
	_ = d.Close()

	u.RawQuery = "database=3"
	_, err = redis.OpenURL(context.Background(), u, driver.Env{})
	fmt.Println(err)
	// Output:
	// redis
	// redis: invalid: unknown parameter "database"; known are allow_eviction, ca_file, cert_file, db, key_file, max_ttl, new, password_file, poll, prefix, retention, sentinel_password_file, sentinel_username, timeout, username, wait_replicas
}
