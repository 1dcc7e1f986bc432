package app

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// status describes the daemon.
func (d *daemon) status(context.Context) *lockpb.Status {
	c := d.store.Capabilities()
	b := &lockpb.Backend{
		Name: d.store.Name(), Driver: c.Name, Serving: d.ready.Load(), Breaker: d.breaker.State(),
		Capabilities: &lockpb.Capabilities{
			MinTtl: durationpb.New(c.MinTTL), MaxTtl: durationpb.New(c.MaxTTL), Lateness: durationpb.New(c.Lateness),
			Poll: durationpb.New(c.Poll), Shared: c.Shared, MaxWaiters: uint32(c.MaxWaiters), Watch: c.Watch, //nolint:gosec // a small number
			ExpiryAtOnce: c.ExpiryAtOnce, ExpiryEvents: c.ExpiryEvents, Clock: string(c.Clock), Durability: string(c.Durability), Retention: durationpb.New(c.Retention),
		},
	}
	if !b.Serving {
		b.Reason = "the backend does not answer"
	}
	if q, ok := driver.As[driver.Quarantiner](d.breaker); ok {
		if reason, remaining := q.Quarantine(); remaining > 0 {
			b.Reason = fmt.Sprintf("in quarantine for %v more: %s", remaining.Round(time.Second), reason)
		}
	}
	b.Servers = d.servers()
	return &lockpb.Status{
		Build:    &lockpb.Build{Version: d.o.Build.Version, Revision: d.o.Build.Revision, GoVersion: d.o.Build.GoVersion},
		Backends: []*lockpb.Backend{b}, LeasesHeld: uint64(d.keeper.Held()), Waiters: uint64(d.store.Waiting()), //nolint:gosec // counts
		Draining: d.draining.Load(),
	}
}

// servers are those of the store, without their addresses.
func (d *daemon) servers() (servers []*lockpb.Server) {
	describer, ok := driver.As[driver.Describer](d.breaker)
	if !ok {
		return nil
	}
	for _, s := range describer.Describe() {
		if s.CheckedAt.IsZero() {
			continue
		}
		servers = append(servers, &lockpb.Server{
			Role: s.Role, Version: s.Version, RunId: s.RunID, Persistence: s.Persistence, EvictionPolicy: s.EvictionPolicy,
			Warnings: s.Warnings, Refused: s.Refused, CheckedAt: timestamppb.New(s.CheckedAt),
		})
	}
	return servers
}
