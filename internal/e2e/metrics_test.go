package e2e

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// What happens to locks is what the metrics say of their class.
func TestMetricsSayWhatHappened(t *testing.T) {
	primary, replica := testenv.StartRedisT(t), testenv.StartRedisT(t)
	replica.ReplicaOf(t, primary)
	c := configure(t, fmt.Sprintf("backends: {main: {url: %q}}\nlock_classes: [{match: jobs/**, class: jobs}]\n", primary.URL()))
	s := c.stream(t)
	s.send(t, &lockpb.AcquireRequest{LockId: "jobs/1", RequestId: "one", Ttl: seconds(6)})
	first := s.granted(t)
	ended := make(chan *lockpb.Lease, 1)
	go func() {
		l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "jobs/1", OwnerId: "two"})
		if err != nil {
			t.Error(err)
		}
		ended <- l
	}()
	c.becomes(t, `locksidecar_waiters{backend="main"}`, 1)
	c.becomes(t, `locksidecar_oldest_wait_seconds{backend="main",lock_class="jobs"}`, 1e-9)
	c.becomes(t, `locksidecar_leases_held{backend="main"}`, 1)
	c.becomes(t, `locksidecar_renewals_total{backend="main",result="ok"}`, 1)
	if err := s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Release{Release: &lockpb.ReleaseRequest{RequestId: "one", FencingToken: first.GetFencingToken()}}}); err != nil {
		t.Fatal(err)
	}
	second := <-ended
	if _, err := c.ForceRelease(within(t), &lockpb.ForceReleaseRequest{LockId: "jobs/1", FencingToken: second.GetFencingToken(), Reason: "test", Immediate: true}); err != nil {
		t.Fatal(err)
	}
	s.send(t, &lockpb.AcquireRequest{LockId: "else", RequestId: "three"})
	third := s.granted(t)
	if _, err := c.ForceRelease(within(t), &lockpb.ForceReleaseRequest{LockId: "else", FencingToken: third.GetFencingToken(), Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	for series, least := range map[string]float64{
		`locksidecar_acquires_total{backend="main",lock_class="jobs",mode="exclusive",result="granted"}`:  2,
		`locksidecar_acquires_total{backend="main",lock_class="other",mode="exclusive",result="granted"}`: 1,
		`locksidecar_acquire_wait_seconds_count{backend="main",lock_class="jobs",mode="exclusive"}`:       2,
		`locksidecar_contended_acquires_total{backend="main",lock_class="jobs"}`:                          1,
		`locksidecar_queue_length_sum{backend="main",lock_class="jobs"}`:                                  1,
		`locksidecar_lease_hold_seconds_count{backend="main",lock_class="jobs",mode="exclusive"}`:         1,
		`locksidecar_leases_lost_total{backend="main",lock_class="other",reason="forced"}`:                1,
		`locksidecar_renewal_margin_ratio_count{backend="main"}`:                                          1,
		`locksidecar_backend_calls_total{backend="main",operation="acquire",outcome="ok"}`:                4,
		`locksidecar_backend_calls_total{backend="main",operation="release",outcome="ok"}`:                1,
		`locksidecar_backend_calls_total{backend="main",operation="sweep",outcome="ok"}`:                  1,
		`locksidecar_backend_call_seconds_count{backend="main",operation="renew"}`:                        1,
		`locksidecar_backend_replicas{backend="main"}`:                                                    1,
		`locksidecar_backend_ready{backend="main"}`:                                                       1,
		`locksidecar_breaker_state{backend="main",calls="read",state="closed"}`:                           1,
		`locksidecar_config_current`: 1,
	} {
		c.becomes(t, series, least)
	}
	c.becomes(t, `locksidecar_backend_replication_lag_seconds{backend="main"}`, 0)
	c.becomes(t, `locksidecar_backend_memory_used_ratio{backend="main"}`, 1e-9)
	for _, series := range []string{
		`locksidecar_contended_acquires_total{backend="main",lock_class="other"}`, `locksidecar_quarantine_remaining_seconds{backend="main"}`,
	} {
		if got := c.metric(t, series); got != "0" {
			t.Errorf("%s is %s, want 0", series, got)
		}
	}
}

// becomes waits until a series has at least that value.
func (c *configured) becomes(t *testing.T, series string, least float64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s becomes %v", series, least), func() bool {
		value, err := strconv.ParseFloat(c.metric(t, series), 64)
		return err == nil && value >= least
	})
}

// A store that has lost its stamps, and a breaker that opens, are seen in the
// metrics, and so is their end.
func TestMetricsSayHowTheStoreIs(t *testing.T) {
	server := testenv.StartRedisT(t)
	c := configure(t, fmt.Sprintf("backends: {main: {url: %q}}\n", server.URL("max_ttl=20s")))
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a", Ttl: seconds(1)})
	if err != nil {
		t.Fatal(err)
	}
	c.release(t, l)
	if err := server.Restart(within(t)); err != nil { // another replication id
		t.Fatal(err)
	}
	eventually(t, "an acquire is refused for the quarantine", func() bool {
		_, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a", Wait: seconds(0), Ttl: seconds(1)})
		return reasonOf(err) == "QUARANTINED main"
	})
	c.becomes(t, `locksidecar_backend_calls_total{backend="main",operation="acquire",outcome="quarantined"}`, 1)
	server.Kill()
	eventually(t, "the breaker opens", func() bool {
		_, _ = c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a", Wait: seconds(0), Ttl: seconds(1)})
		return c.metric(t, `locksidecar_breaker_state{backend="main",calls="acquire",state="open"}`) == "1"
	})
	eventually(t, "the backend does not answer", func() bool { return c.metric(t, `locksidecar_backend_ready{backend="main"}`) == "0" })
	c.becomes(t, `locksidecar_backend_calls_total{backend="main",operation="acquire",outcome="unavailable"}`, 1)
	eventually(t, "an open breaker's time ends although nobody asks", func() bool {
		return c.metric(t, `locksidecar_breaker_state{backend="main",calls="acquire",state="half-open"}`) == "1"
	})
}
