package dynamodb_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/dynamodb"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

func BenchmarkAcquireRelease(b *testing.B) {
	e := testenv.StartDynamoT(b)
	d, err := dynamodb.New(dynamodb.Options{Table: "locks", Endpoint: e.Endpoint(), Create: true, AWS: aws.Config{Region: testenv.DynamoRegion, Credentials: e.Credentials()}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	var n atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := fmt.Sprint("request-", n.Add(1))
			r := &driver.AcquireRequest{LockID: id, OwnerID: "owner", RequestID: id, Key: driver.KeyOf(id), TTL: 30 * time.Second, PlaceTTL: time.Second}
			res, err := d.Acquire(b.Context(), r)
			if err != nil || res.Lease == nil {
				b.Error(res, err)
				return
			}
			if _, err := d.Release(b.Context(), &driver.ReleaseRequest{LeaseRef: driver.LeaseRef{LockID: id, Key: r.Key, Token: res.Lease.Token, Attach: 1}, RequestID: id}); err != nil {
				b.Error(err)
			}
		}
	})
}
