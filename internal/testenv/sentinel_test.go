package testenv

import "testing"

func TestSentinelFailoverLosesWritesAndLeavesAStalePrimary(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t, RedisOptions{Password: "secret"})
	if len(s.Addrs()) != 3 || len(s.Replicas(t)) != 2 {
		t.Fatalf("sentinels %v, replicas %v", s.Addrs(), s.Replicas(t))
	}
	s.Primary(t).Must(t, "SET", "kept", "v")
	s.Primary(t).WaitReplicated(t, 2)
	s.StopReplication(t)
	s.StartReplication(t)
	s.StopReplication(t)
	s.Primary(t).Must(t, "SET", "lost", "v")
	old := s.PausePrimary(t)
	primary := s.WaitForFailover(t, old)
	expect(t, "what was replicated", get(t, primary, "kept"), "v")
	expect(t, "what was not", get(t, primary, "lost"), "")

	if err := old.Resume(); err != nil {
		t.Fatal(err)
	}
	old.Must(t, "SET", "stale", "v") // it takes itself for the primary
	old.WaitLinked(t)
	expect(t, "what the stale primary took", get(t, old, "stale"), "")
	expect(t, "the primary", s.Primary(t).Addr(), primary.Addr())
}

func TestSentinelFailoverAfterKill(t *testing.T) {
	EachEdition(t, func(t *testing.T, e Edition) {
		t.Parallel()
		s := StartSentinel(t, RedisOptions{Edition: e})
		s.Primary(t).Must(t, "SET", "k", "v")
		s.Primary(t).WaitReplicated(t, 2)
		old := s.KillPrimary(t)
		primary := s.WaitForFailover(t, old)
		expect(t, "what was replicated", get(t, primary, "k"), "v")
		if e.Optional() {
			return // what follows takes the Sentinels eight seconds, and is theirs alone
		}
		if err := old.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		old.WaitLinked(t)
		expect(t, "the old primary's data", get(t, old, "k"), "v")
	})
}
