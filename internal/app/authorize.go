package app

import (
	"github.com/locksidecar/locksidecar/internal/policy"
	"github.com/locksidecar/locksidecar/socket"
)

// authorize asks the policy about each call; without one the socket's mode is
// the boundary.
func authorize(p *policy.Policy) func(socket.Call) error {
	if p == nil {
		return nil
	}
	return func(c socket.Call) error {
		if c.Verb == socket.VerbConnect {
			return nil
		}
		who := &policy.Subject{Socket: c.Peer.Socket, UID: c.Peer.UID, GID: c.Peer.GID, Groups: c.Peer.Groups}
		return p.Check(who, policy.Verb(c.Verb), c.LockID)
	}
}
