package app

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

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
	return &lockpb.Status{
		Build:    &lockpb.Build{Version: d.o.Build.Version, Revision: d.o.Build.Revision, GoVersion: d.o.Build.GoVersion},
		Backends: []*lockpb.Backend{b}, LeasesHeld: uint64(d.keeper.Held()), Waiters: uint64(d.store.Waiting()), //nolint:gosec // counts
		Draining: d.draining.Load(),
	}
}
