package socket

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Verb is what a call does, as far as Options.Authorize is concerned.
type Verb string

// The verbs.
const (
	// VerbConnect is every call for which it is enough to be connected: what
	// needs a lease's secret (renew, release, adopt), opening a stream that asks
	// for more (Hold, Drain), health and reflection. A change of a policy must not
	// lose a lease.
	VerbConnect Verb = "connect"
	// VerbAcquire takes a lease, by a call or on a Hold stream.
	VerbAcquire Verb = "acquire"
	// VerbInspect reads the state of locks.
	VerbInspect Verb = "inspect"
	// VerbForce ends another's lease or wait, moves a waiter, or drains a lock.
	VerbForce Verb = "force"
)

// Call is what Options.Authorize is asked about.
type Call struct {
	Peer Peer
	// Method is the full one of gRPC, also for HTTP. A Hold stream is asked
	// for when it is opened, with VerbConnect, and for each acquire on it; a Drain
	// when it is opened, with VerbConnect, and then with VerbForce.
	Method string
	Verb   Verb
	// LockID is empty if the call is about no lock, or about many: a List or
	// Watch is asked for as a whole, without an id, and then for each lock that
	// it would show.
	LockID string
}

// apiPrefix begins the methods of our own services.
const apiPrefix = "/locksidecar.v1."

// verbOf has every method of our own services; one that is missing is refused.
var verbOf = map[string]Verb{
	lockpb.LockService_Acquire_FullMethodName:       VerbAcquire,
	lockpb.LockService_Renew_FullMethodName:         VerbConnect,
	lockpb.LockService_Release_FullMethodName:       VerbConnect,
	lockpb.LockService_Get_FullMethodName:           VerbInspect,
	lockpb.LockService_Hold_FullMethodName:          VerbConnect,
	lockpb.AdminService_List_FullMethodName:         VerbInspect,
	lockpb.AdminService_ForceRelease_FullMethodName: VerbForce,
	lockpb.AdminService_CancelWaiter_FullMethodName: VerbForce,
	lockpb.AdminService_Reprioritize_FullMethodName: VerbForce,
	lockpb.AdminService_Drain_FullMethodName:        VerbConnect,
	lockpb.AdminService_GetStatus_FullMethodName:    VerbInspect,
	lockpb.AdminService_Watch_FullMethodName:        VerbInspect,
}

// exempt are the calls that no limit may refuse: a limit must not lose a lease.
// A Hold may be opened to adopt; its acquires are not exempt, nor is a drain.
var exempt = map[string]bool{
	lockpb.LockService_Renew_FullMethodName:   true,
	lockpb.LockService_Release_FullMethodName: true,
	lockpb.LockService_Hold_FullMethodName:    true,
	lockpb.AdminService_Drain_FullMethodName:  true, // it counts as a Hold does
}

// authorize is the one place where a call is allowed or refused, before it is
// dispatched, whatever the protocol. The method is the full one of gRPC, the
// lock id empty if the call names none. It returns the connection that the call
// came on.
func (s *Server) authorize(ctx context.Context, method, lockID string) (*conn, error) {
	c := connOf(ctx)
	if c == nil {
		return nil, fmt.Errorf("%w: the connection is unknown", errDenied)
	}
	if c.refused && !exempt[method] {
		return c, s.tooManyConnections()
	}
	verb, known := verbOf[method]
	switch {
	case known:
	case strings.HasPrefix(method, apiPrefix):
		return c, fmt.Errorf("%w: %s has no verb", errDenied, method)
	default:
		verb = VerbConnect
	}
	return c, s.allow(c, method, verb, lockID)
}

// allow asks for one thing that a call is about to do. A refusal is logged, and
// tells the client nothing.
func (s *Server) allow(c *conn, method string, verb Verb, lockID string) error {
	if err := s.ask(c, method, verb, lockID); err != nil {
		s.log.write(slog.LevelWarn, "a peer was refused", driver.LogPID, c.peer.PID, driver.LogUID, c.peer.UID,
			driver.LogVerb, string(verb), driver.LogLock, lockID, driver.LogMethod, method, driver.LogError, err)
		return errDenied
	}
	return nil
}

// ask is allow without a line in the log, for what is left out of an answer
// instead of being refused.
func (s *Server) ask(c *conn, method string, verb Verb, lockID string) error {
	if s.o.Authorize == nil || c.admin != "" {
		return nil
	}
	return s.o.Authorize(Call{Peer: c.peer, Method: method, Verb: verb, LockID: lockID})
}

func (s *Server) tooManyConnections() error {
	return &limitError{"connections", s.quotas.limits.Connections}
}
