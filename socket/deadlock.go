package socket

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"github.com/locksidecar/locksidecar/backend"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// mayInspect says whether the peer may inspect every lock of a deadlock: it tells
// who holds them and who waits.
func (s *Server) mayInspect(c *conn, method string, d *lockpb.Deadlock) bool {
	return !slices.ContainsFunc(d.GetWaits(), func(w *lockpb.Wait) bool {
		return s.ask(c, method, VerbInspect, w.GetLockId()) != nil
	})
}

// forPeer is an error without the waits of a deadlock at locks that the peer may
// not inspect. Its own stays.
func (s *Server) forPeer(c *conn, method, lockID string, err error) error {
	var d *backend.DeadlockError
	if s.o.Authorize == nil || !errors.As(err, &d) {
		return err
	}
	shown := &backend.DeadlockError{Hidden: d.Hidden}
	for _, w := range d.Cycle {
		if w.LockID != lockID && s.ask(c, method, VerbInspect, w.LockID) != nil {
			shown.Hidden++
			continue
		}
		shown.Cycle = append(shown.Cycle, w)
	}
	return shown
}

// maxCycle bounds the bytes of a cycle in an error's metadata, which goes over
// gRPC as a header.
const maxCycle = 3 << 10

// deadlock tells the cycle, as much of it as there is room for.
func (a *answer) deadlock(e *backend.DeadlockError) {
	a.text = e.Error()
	cycle := []byte("[")
	for _, w := range e.Cycle {
		one, err := json.Marshal(struct {
			Backend string `json:"backend,omitempty"`
			LockID  string `json:"lock_id"`
			OwnerID string `json:"owner_id"`
			For     string `json:"waits_for"`
			Token   string `json:"fencing_token"`
		}{w.Backend, w.LockID, w.OwnerID, w.For, strconv.FormatInt(w.Token, 10)})
		if err != nil || len(cycle)+len(one) > maxCycle {
			break
		}
		if len(cycle) > 1 {
			cycle = append(cycle, ',')
		}
		cycle = append(cycle, one...)
	}
	a.set("cycle", string(append(cycle, ']')))
	a.set("cycle_length", strconv.Itoa(len(e.Cycle)+e.Hidden))
}
