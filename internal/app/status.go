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
func (d *daemon) status(ctx context.Context, in *lockpb.GetStatusRequest) *lockpb.Status {
	found, at := d.detector.Latest()
	if in.GetFindDeadlocks() {
		found, at = d.detector.Look(ctx)
	}
	d.mu.Lock()
	reloads := d.reloads
	d.mu.Unlock()
	s := &lockpb.Status{
		Build:    &lockpb.Build{Version: d.o.Build.Version, Revision: d.o.Build.Revision, GoVersion: d.o.Build.GoVersion},
		Draining: d.draining.Load(),
		Configuration: &lockpb.Configuration{
			LoadedAt: timestamppb.New(reloads.loaded), Reloads: reloads.ok, Refused: reloads.refused, Stale: reloads.stale,
		},
	}
	for _, b := range d.list() {
		s.Backends = append(s.Backends, b.message())
		s.LeasesHeld += uint64(b.Keeper().Held()) //nolint:gosec // a count
		s.Waiters += uint64(b.store.Waiting())    //nolint:gosec // a count
	}
	d.detector.Describe(s, found, at)
	return s
}

func (b *branch) message() *lockpb.Backend {
	c := b.store.Capabilities()
	m := &lockpb.Backend{
		Name: b.Name(), Driver: c.Name, Serving: b.ready.Load(), Breaker: b.breaker.State(), Retired: b.retired.Load(),
		Capabilities: &lockpb.Capabilities{
			MinTtl: durationpb.New(c.MinTTL), MaxTtl: durationpb.New(c.MaxTTL), Lateness: durationpb.New(c.Lateness),
			Poll: durationpb.New(c.Poll), Shared: c.Shared, MaxWaiters: uint32(c.MaxWaiters), Watch: c.Watch, //nolint:gosec // a small number
			ExpiryAtOnce: c.ExpiryAtOnce, ExpiryEvents: c.ExpiryEvents, EditQueue: c.EditQueue, Clock: string(c.Clock), Durability: string(c.Durability), Retention: durationpb.New(c.Retention),
		},
	}
	if !m.Serving {
		m.Reason = "the backend does not answer"
	}
	if refusal := *b.refusal.Load(); refusal != "" {
		m.Reason = refusal
	}
	if q, ok := driver.As[driver.Quarantiner](b.breaker); ok {
		if reason, remaining := q.Quarantine(); remaining > 0 {
			m.Reason = fmt.Sprintf("in quarantine for %v more: %s", remaining.Round(time.Second), reason)
		}
	}
	m.Servers = b.servers()
	return m
}

// servers are those of the store, without their addresses.
func (b *branch) servers() (servers []*lockpb.Server) {
	describer, ok := driver.As[driver.Describer](b.breaker)
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
