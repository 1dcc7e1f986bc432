package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// attributes are those of the driver's items.
var attributes = []string{"k", "f", "v", "tok", "seq", "h", "q", "gone", "hb"}

// table is what is known of the table. It is looked at before the first call.
type table struct {
	fit atomic.Pointer[described]

	mu      sync.Mutex
	looking chan struct{}
	refused atomic.Pointer[string]
}

// described is a table that is fit for locks.
type described struct {
	billing  string
	warnings []string
	at       time.Time
}

const (
	// creationPoll is how often a table that is being made is looked at.
	creationPoll = 100 * time.Millisecond
)

// ready looks at the table once, and makes it if that is allowed. Its errors say
// that nothing was done.
func (s *Store) ready(ctx context.Context) error {
	for s.table.fit.Load() == nil {
		s.table.mu.Lock()
		looking := s.table.looking
		if looking == nil {
			mine := make(chan struct{})
			s.table.looking = mine
			s.table.mu.Unlock()
			err := s.examine(ctx)
			s.table.mu.Lock()
			s.table.looking = nil
			s.table.mu.Unlock()
			close(mine)
			return err
		}
		s.table.mu.Unlock()
		select {
		case <-looking: // another call has looked
		case <-ctx.Done():
			return fmt.Errorf("%w: the table is being looked at: %w", driver.ErrUnavailable, ctx.Err())
		}
	}
	return nil
}

// examine says whether the table is fit for locks.
func (s *Store) examine(ctx context.Context) error {
	for {
		out, _, err := once(ctx, s, reads, s.client.DescribeTable, &sdk.DescribeTableInput{TableName: &s.o.Table})
		var none *types.ResourceNotFoundException
		switch {
		case errors.As(err, &none) && s.o.Create:
			if err := s.create(ctx); err != nil {
				return err
			}
		case errors.As(err, &none):
			return s.refuse("there is no table of that name (create=1 makes it)")
		case err != nil:
			return err
		case out.Table.TableStatus == types.TableStatusActive || out.Table.TableStatus == types.TableStatusUpdating:
			return s.inspectTable(ctx, out.Table)
		case out.Table.TableStatus != types.TableStatusCreating:
			return s.refuse("the table is " + string(out.Table.TableStatus))
		}
		t := time.NewTimer(creationPoll)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%w: the table is being made: %w", driver.ErrUnavailable, ctx.Err())
		}
	}
}

func (s *Store) create(ctx context.Context) error {
	key := "k"
	_, _, err := once(ctx, s, reads, s.client.CreateTable, &sdk.CreateTableInput{
		TableName: &s.o.Table, BillingMode: types.BillingModePayPerRequest,
		KeySchema:            []types.KeySchemaElement{{AttributeName: &key, KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &key, AttributeType: types.ScalarAttributeTypeS}},
	})
	var exists *types.ResourceInUseException
	if err == nil {
		s.o.Logger.Info("the table is made", driver.LogBackend, "dynamodb")
	}
	if errors.As(err, &exists) { // another driver was first
		return nil
	}
	return err
}

func (s *Store) inspectTable(ctx context.Context, t *types.TableDescription) error {
	if len(t.KeySchema) != 1 || t.KeySchema[0].AttributeName == nil || *t.KeySchema[0].AttributeName != "k" {
		return s.refuse("the table's key is another than the partition key k alone")
	}
	if !slices.ContainsFunc(t.AttributeDefinitions, func(a types.AttributeDefinition) bool {
		return a.AttributeName != nil && *a.AttributeName == "k" && a.AttributeType == types.ScalarAttributeTypeS
	}) {
		return s.refuse("the table's key k is no string")
	}
	d := &described{at: time.Now(), billing: "provisioned"}
	if t.BillingModeSummary != nil && t.BillingModeSummary.BillingMode == types.BillingModePayPerRequest {
		d.billing = "by request"
	}
	if len(t.Replicas) > 0 && t.MultiRegionConsistency != types.MultiRegionConsistencyStrong {
		d.warnings = append(d.warnings, "the table has replicas that converge later: only the sidecars of one Region exclude each other")
	}
	ttl, _, err := once(ctx, s, reads, s.client.DescribeTimeToLive, &sdk.DescribeTimeToLiveInput{TableName: &s.o.Table})
	switch {
	case err == nil:
		if e := ttl.TimeToLiveDescription; e != nil && e.AttributeName != nil && e.TimeToLiveStatus != types.TimeToLiveStatusDisabled && slices.Contains(attributes, *e.AttributeName) {
			return s.refuse("the table deletes items by their attribute " + *e.AttributeName + ", which is a lock's")
		}
	case understood(err) && !errors.Is(err, ErrThrottled): // no right to look, or an emulator that does not know it
		d.warnings = append(d.warnings, "it cannot be seen whether the table deletes items by a time to live (dynamodb:DescribeTimeToLive)")
	default:
		return err
	}
	s.table.refused.Store(nil)
	s.table.fit.Store(d)
	for _, w := range d.warnings {
		s.o.Logger.Warn(w, driver.LogBackend, "dynamodb")
	}
	return nil
}

// refuse is of a table that answers and is not used.
func (s *Store) refuse(why string) error {
	if was := s.table.refused.Swap(&why); was == nil || *was != why {
		s.o.Logger.Warn("the table is not used", driver.LogBackend, "dynamodb", driver.LogError, why)
	}
	return fmt.Errorf("%w: the table is not used: %s", driver.ErrUnavailable, why)
}

// Describe tells what is known of the table.
func (s *Store) Describe() []driver.Server {
	address, version := s.o.Endpoint, "a server of DynamoDB's protocol" // which one it is, it does not say
	if address == "" {
		address, version = s.o.AWS.Region, "DynamoDB"
	}
	d := driver.Server{Address: address + "/" + s.o.Table, Role: "table", Version: version + ", " + s.o.AWS.Region}
	if fit := s.table.fit.Load(); fit != nil {
		d.Persistence, d.Warnings, d.CheckedAt = "billed "+fit.billing, fit.warnings, fit.at
	}
	if refused := s.table.refused.Load(); refused != nil {
		d.Refused = *refused
	}
	return []driver.Server{d}
}

// alarm says that a clock is not believed, once until it is right again.
type alarm struct{ raised atomic.Bool }

func (a *alarm) set(s *Store, wrong bool, store int64) {
	if was := a.raised.Swap(wrong); wrong && !was {
		s.o.Logger.Error("this machine's clock makes no tokens, because it differs from the servers': the next numbers are used", driver.LogBackend, "dynamodb",
			driver.LogError, fmt.Sprintf("here it is %s, there %s", s.o.Now().UTC().Format(time.RFC3339), time.UnixMicro(store).UTC().Format(time.RFC3339)))
	}
}
