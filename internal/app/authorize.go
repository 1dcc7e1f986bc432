package app

import (
	"github.com/locksidecar/locksidecar/internal/policy"
	"github.com/locksidecar/locksidecar/socket"
)

// authorizer asks the policy that is in force about each call; without one the
// socket's mode is the boundary. It is nil if there is no policy and there will
// be none.
func (d *daemon) authorizer() func(socket.Call) error {
	if d.o.Reload == nil && d.policy.Load() == nil {
		return nil
	}
	return func(c socket.Call) error {
		p := d.policy.Load()
		if p == nil || c.Verb == socket.VerbConnect {
			return nil
		}
		who := &policy.Subject{Socket: c.Peer.Socket, UID: c.Peer.UID, GID: c.Peer.GID, Groups: c.Peer.Groups}
		return p.Check(who, policy.Verb(c.Verb), c.LockID)
	}
}
