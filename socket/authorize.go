package socket

import (
	"context"
	"fmt"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// exempt are the calls that no limit may refuse: a limit must not lose a lease.
var exempt = map[string]bool{
	lockpb.LockService_Renew_FullMethodName:   true,
	lockpb.LockService_Release_FullMethodName: true,
}

// authorize is the one place where a call is allowed or refused, before it is
// dispatched, whatever the protocol. The method is the full one of gRPC. It
// returns the connection that the call came on.
func (s *Server) authorize(ctx context.Context, method string) (*conn, error) {
	c := connOf(ctx)
	if c == nil {
		return nil, fmt.Errorf("%w: the connection is unknown", errDenied)
	}
	if c.refused && !exempt[method] {
		return c, &limitError{"connections", c.quota.limits.Connections}
	}
	if s.o.Authorize != nil {
		if err := s.o.Authorize(c.peer, method); err != nil {
			s.log.printf("pid %d of uid %d was refused %s: %v", c.peer.PID, c.peer.UID, method, err)
			return c, errDenied
		}
	}
	return c, nil
}
