package socket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Domain is the domain of every ErrorInfo.
const Domain = "locksidecar.dev"

// Reason is what a client may decide by: one row of the one table of errors.
type Reason struct {
	// Name is the reason of the ErrorInfo. INVALID_… stands for one name for
	// each field.
	Name string
	// Code is the gRPC code, HTTP the status code for the same.
	Code codes.Code
	HTTP int
	// Meaning is the message, where the error has none that was made for
	// clients.
	Meaning string
	// Metadata are the keys that the ErrorInfo may have.
	Metadata []string
	// Retry is the delay that RetryInfo and Retry-After advise; 0 means that
	// repeating the request unchanged will not help, or that the client is the
	// one to know when.
	Retry time.Duration
}

// Errors of this package's own.
var (
	errDenied    = errors.New("this peer may not do this")
	errDraining  = errors.New("the sidecar is stopping")
	errLeaving   = fmt.Errorf("%w, and leaves the leases to be adopted", errDraining)
	errNoPath    = errors.New("no such path")
	errVerb      = errors.New("this path is served under another HTTP method")
	errRequest   = errors.New("the request cannot be read")
	errCancelled = context.Canceled
)

// ErrNoRoute is returned by Locks and Sessions of several stores for a lock that
// none of them has.
var ErrNoRoute = errors.New("no route of the configuration matches the lock_id")

// row is what an error is to a client.
type row struct {
	is     error
	reason Reason
}

// rows is the table of errors. The first row that an error is decides: the
// special ones stand before the general ones, and a context's errors last,
// since a backend's errors may wrap them.
var rows = []row{
	{driver.ErrHeld, Reason{
		Name: "LOCK_HELD", Code: codes.Aborted, HTTP: http.StatusConflict,
		Meaning:  "the lock is held, or others wait for it; also when a bounded wait ran out",
		Metadata: []string{"holder", "remaining", "queue_length", "held_by_self", "other_mode"},
	}},
	{driver.ErrLost, Reason{
		Name: "LEASE_LOST", Code: codes.Aborted, HTTP: http.StatusConflict,
		Meaning: "the lease does not stand any more", Metadata: []string{"cause"},
	}},
	{driver.ErrNotOwner, Reason{
		Name: "NOT_OWNER", Code: codes.Aborted, HTTP: http.StatusConflict,
		Meaning: "the lease stands under another lease_id",
	}},
	{driver.ErrStaleToken, Reason{
		Name: "STALE_TOKEN", Code: codes.Aborted, HTTP: http.StatusConflict,
		Meaning: "the fencing token is not this lease's", Metadata: []string{"expected", "actual"},
	}},
	{driver.ErrNoPlace, Reason{
		Name: "NO_SUCH_WAITER", Code: codes.Aborted, HTTP: http.StatusConflict,
		Meaning: "no waiter of the lock has this ticket: it was granted, or has left, since you looked",
	}},
	{driver.ErrDeadlock, Reason{
		Name: "DEADLOCK", Code: codes.Aborted, HTTP: http.StatusConflict,
		Meaning:  "waiting would have been a deadlock, and this request was chosen to break it. Release what you hold before you try again",
		Metadata: []string{"cycle", "cycle_length"},
	}},
	// Before the others of the way to the store: once an attempt may have been
	// done, what a later one met does not change that.
	{driver.ErrIndeterminate, Reason{
		Name: "OUTCOME_UNKNOWN", Code: codes.Unknown, HTTP: http.StatusInternalServerError,
		Meaning:  "it may have been done or not; repeat it under the same request_id. An acquire that is not repeated is undone",
		Metadata: []string{"request_id", "backend"},
	}},
	{driver.ErrBreakerOpen, Reason{
		Name: "BREAKER_OPEN", Code: codes.Unavailable, HTTP: http.StatusServiceUnavailable,
		Meaning:  "the backend failed repeatedly and is given a pause; nothing was done",
		Metadata: []string{"backend"}, Retry: time.Second,
	}},
	{driver.ErrQuarantined, Reason{
		Name: "QUARANTINED", Code: codes.Unavailable, HTTP: http.StatusServiceUnavailable,
		Meaning: "the backend may have lost leases and grants nothing until the longest must have ended; " +
			"a new store needs: locksidecar store init --backend URL",
		Metadata: []string{"backend"}, Retry: 5 * time.Second,
	}},
	{driver.ErrUnavailable, Reason{
		Name: "BACKEND_UNAVAILABLE", Code: codes.Unavailable, HTTP: http.StatusServiceUnavailable,
		Meaning: "the backend cannot be reached; nothing was done", Metadata: []string{"backend"}, Retry: time.Second,
	}},
	{driver.ErrFormat, Reason{
		Name: "NEWER_FORMAT", Code: codes.FailedPrecondition, HTTP: http.StatusPreconditionFailed,
		Meaning: "the lock's record was written by a newer version of locksidecar", Metadata: []string{"backend"},
	}},
	{errDraining, Reason{
		Name: "DRAINING", Code: codes.Unavailable, HTTP: http.StatusServiceUnavailable,
		Meaning:  "the sidecar is stopping. Of a Hold stream: its leases were released, or, if leases is left, may be adopted while they stand",
		Metadata: []string{"leases"}, Retry: time.Second,
	}},
	{driver.ErrClosed, Reason{
		Name: "DRAINING", Code: codes.Unavailable, HTTP: http.StatusServiceUnavailable,
		Meaning: "the sidecar is stopping", Retry: time.Second,
	}},
	{ErrNoRoute, Reason{
		Name: "NO_ROUTE", Code: codes.InvalidArgument, HTTP: http.StatusBadRequest,
		Meaning: "no route of the configuration matches the lock_id",
	}},
	{driver.ErrAmbiguousHold, Reason{
		Name: "INVALID_REQUEST_ID", Code: codes.InvalidArgument, HTTP: http.StatusBadRequest,
		Meaning: "the lease has several holds: name the request_id of the one to release", Metadata: []string{"limits"},
	}},
	{errRequest, Reason{
		Name: "INVALID_REQUEST", Code: codes.InvalidArgument, HTTP: http.StatusBadRequest,
		Meaning: "the request cannot be read", Metadata: []string{"limits"},
	}},
	{driver.ErrInvalid, Reason{
		Name: "INVALID_…", Code: codes.InvalidArgument, HTTP: http.StatusBadRequest,
		Meaning: "a field is not valid, INVALID_LOCK_ID for lock_id", Metadata: []string{"limits"},
	}},
	{driver.ErrUnsupported, Reason{
		Name: "UNSUPPORTED", Code: codes.Unimplemented, HTTP: http.StatusNotImplemented,
		Meaning: "the backend cannot do this", Metadata: []string{"backend"},
	}},
	{errDenied, Reason{
		Name: "PERMISSION_DENIED", Code: codes.PermissionDenied, HTTP: http.StatusForbidden,
		Meaning: "this peer may not do this",
	}},
	{driver.ErrLimit, Reason{
		Name: "LIMIT_EXCEEDED", Code: codes.ResourceExhausted, HTTP: http.StatusTooManyRequests,
		Meaning: "a limit was reached", Metadata: []string{"limit"},
	}},
	{errNoPath, Reason{
		Name: "NO_SUCH_PATH", Code: codes.Unimplemented, HTTP: http.StatusNotFound,
		Meaning: "HTTP only: the path is none of the API's",
	}},
	{errVerb, Reason{
		Name: "WRONG_METHOD", Code: codes.Unimplemented, HTTP: http.StatusMethodNotAllowed,
		Meaning: "HTTP only: the path is served under another HTTP method",
	}},
	{errCancelled, Reason{
		Name: "CANCELLED", Code: codes.Canceled, HTTP: statusClientClosed,
		Meaning: "the caller left",
	}},
	{context.DeadlineExceeded, Reason{
		Name: "DEADLINE_EXCEEDED", Code: codes.DeadlineExceeded, HTTP: http.StatusGatewayTimeout,
		Meaning: "the deadline of the call passed",
	}},
}

// statusClientClosed is nginx's code for a caller that left; nobody reads it.
const statusClientClosed = 499

// internal is the row of every other error.
var internal = Reason{
	Name: "INTERNAL", Code: codes.Internal, HTTP: http.StatusInternalServerError,
	Meaning: "an error of the sidecar itself; its log says more",
}

// Reasons lists the table of errors, each reason once, for the documents.
func Reasons() []Reason {
	var reasons []Reason
	seen := map[string]bool{}
	for _, r := range append(rows, row{reason: internal}) {
		if !seen[r.reason.Name] {
			seen[r.reason.Name] = true
			reasons = append(reasons, r.reason)
		}
	}
	return reasons
}

func reasonOf(err error) Reason {
	for _, r := range rows {
		if errors.Is(err, r.is) {
			return r.reason
		}
	}
	return internal
}
