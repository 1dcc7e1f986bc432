package conformance_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/dynamodb"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// onTable is a harness on a table of an emulator.
func onTable(t *testing.T, e *testenv.Dynamo, table string) conformance.Harness {
	var ahead atomic.Int64
	open := func(endpoint string) (*dynamodb.Store, error) {
		return dynamodb.New(dynamodb.Options{
			Table: table, Endpoint: endpoint, Create: true, MinTTL: 400 * time.Millisecond, Poll: 200 * time.Millisecond,
			Timeout: 20 * time.Second, // an emulator has one thread, and may share the machine
			AWS:     aws.Config{Region: testenv.DynamoRegion, Credentials: e.Credentials()}, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		})
	}
	return conformance.Harness{
		Open: func(context.Context) (driver.Driver, error) { return open(e.Endpoint()) },
		Link: func(context.Context) (*conformance.Link, error) {
			p := testenv.StartDynamoProxy(t, e)
			d, err := open(p.Endpoint())
			return &conformance.Link{
				Driver: d,
				LoseReply: func(n int) {
					var seen atomic.Int64
					p.Meet(func(string, []byte) testenv.DynamoFault {
						if seen.Add(1) == int64(n) {
							return testenv.DynamoDropReply
						}
						return testenv.DynamoPass
					})
				},
				Cut: func() { p.Meet(func(string, []byte) testenv.DynamoFault { return testenv.DynamoDropRequest }) },
			}, err
		},
		TTL:    time.Second,
		Slow:   true,
		Wipe:   func(ctx context.Context) error { return e.Wipe(ctx, table) },
		Pause:  func() (func() error, error) { return e.Resume, e.Pause() },
		Skew:   func(d time.Duration) { ahead.Store(int64(d)) },
		Server: func(context.Context) string { return e.Version() },
	}
}

// few is for an emulator, which does one thing at a time: with more cases beside
// each other, their leases run out while they wait for it.
var few = conformance.Options{Parallel: 2}
