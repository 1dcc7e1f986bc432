package socket_test

import (
	"strconv"
	"testing"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// A client whose connection broke while it waited asks again on a new one under
// the same request id, at once. What undoes the old stream's attempt must not
// take the lease that the new stream was told of, whichever of the two reaches
// the store first.
func TestAcquireSentAgainOnANewConnectionIsItsOwn(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	holder := dial(t, s.path)
	told, streams := make(map[string]int64), []stream(nil)
	for i := range 200 {
		lock, request := "again/"+strconv.Itoa(i), "request-"+strconv.Itoa(i)
		held, err := holder.Acquire(within(t), &lockpb.AcquireRequest{LockId: lock, Ttl: longerThanPatience})
		if err != nil {
			t.Fatal(err)
		}
		ask := &lockpb.AcquireRequest{LockId: lock, RequestId: request, Ttl: longerThanPatience}
		broken := dial(t, s.path)
		broken.hold(t).acquire(ask)
		eventually(t, "the first attempt waits", func() bool { return s.waiters(t, lock) == 1 })
		again := dial(t, s.path).hold(t)
		_ = broken.conn.Close()
		again.acquire(ask)
		if _, err := holder.Release(within(t), &lockpb.ReleaseRequest{LockId: lock, LeaseId: held.GetLeaseId(), FencingToken: held.GetFencingToken()}); err != nil {
			t.Fatal(err)
		}
		told[lock] = again.granted().GetFencingToken()
		streams = append(streams, again)
	}
	// The undo of the last round has had no time; those of the others have.
	for lock, token := range told {
		if holders := s.holders(t, lock); len(holders) != 1 || holders[0].Token != token {
			t.Errorf("%s: told of token %d, the lock has %+v", lock, token, holders)
		}
	}
	for i, st := range streams {
		st.release(&lockpb.ReleaseRequest{RequestId: "request-" + strconv.Itoa(i)})
		if r := st.next(); r.GetReleased() == nil {
			t.Errorf("round %d: the release was answered %v", i, r)
		}
	}
}
