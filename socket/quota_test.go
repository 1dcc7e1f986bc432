package socket

import "testing"

// A few connections beyond the limit are told so; one more is closed without a
// word. Peers do not share their limits.
func TestQuotaOfConnections(t *testing.T) {
	q := quotas{limits: Limits{Connections: 2}.withDefaults(), peers: make(map[peerKey]*quota)}
	noisy, quiet := Peer{PID: 7, UID: 1}, Peer{PID: 8, UID: 1}
	for i := range 2 + refusals {
		if _, over, ok := q.connect(noisy); !ok || over != (i >= 2) {
			t.Errorf("connection %d: over %t, ok %t", i, over, ok)
		}
	}
	if _, _, ok := q.connect(noisy); ok {
		t.Error("the number of connections has no bound")
	}
	if _, over, ok := q.connect(quiet); over || !ok {
		t.Error("one peer's connections count for another")
	}
	for range 2 + refusals {
		q.disconnect(noisy)
	}
	q.disconnect(quiet)
	if len(q.peers) != 0 {
		t.Errorf("%d peers are left", len(q.peers))
	}
}

// Where the kernel does not tell the process, the user's connections are
// counted together.
func TestQuotaWithoutPID(t *testing.T) {
	q := quotas{limits: Limits{Connections: 1}.withDefaults(), peers: make(map[peerKey]*quota)}
	first, _, _ := q.connect(Peer{UID: 1})
	second, over, _ := q.connect(Peer{UID: 1})
	if first != second || !over {
		t.Error("two connections of one user without a pid are two peers")
	}
}
