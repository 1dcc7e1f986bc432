package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/client"
)

// The exit codes. Those above 63 are sysexits.h's.
const (
	exitNo       = 1  // not acquired, not serving, a red certificate
	exitNotRun   = 2  // the conformance suite could not run
	exitUsage    = 64 // usage or configuration
	exitNoDaemon = 69 // no daemon, or its backend is unavailable
	exitInternal = 70
	exitLost     = 75 // the lease was lost, or the token is stale
	exitDenied   = 77
	exitSignal   = 128 // plus the signal's number
)

// exitError ends the command with a code; a nil err says that everything has
// been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// signalled is the cause of a context that a signal ended.
type signalled struct{ signal os.Signal }

func (s *signalled) Error() string { return s.signal.String() }

// interrupted is the outcome of a command that a signal ended; nil if none did.
func interrupted(ctx context.Context) error {
	var s *signalled
	if !errors.As(context.Cause(ctx), &s) {
		return nil
	}
	return &exitError{code: signalCode(s.signal)}
}

func signalCode(s os.Signal) int {
	n, _ := s.(syscall.Signal)
	return exitSignal + int(n)
}

// describe is what a person reads.
func describe(err error) string {
	switch {
	case client.NoDaemon(err):
		return "no daemon answers (" + client.Message(err) + "); start one by: locksidecar dev, or name its socket by --endpoint or " + client.EndpointVariable
	case status.Code(err) == codes.PermissionDenied:
		return client.Message(err) + ": the sidecar denies it to this user, and its log says why"
	case status.Code(err) == codes.DeadlineExceeded:
		return "the daemon does not answer in time (" + client.Message(err) + "); ask it by: locksidecar health, and look into its log"
	}
	return client.Message(err)
}

// codeOf is the exit code of an error that no command has judged.
func codeOf(err error) int {
	if _, isStatus := status.FromError(err); !isStatus {
		return codeOfSentinel(err)
	}
	reason, _ := client.Reason(err)
	switch reason {
	case "LOCK_HELD", "DEADLOCK":
		return exitNo
	case "LEASE_LOST", "NOT_OWNER", "STALE_TOKEN", "NO_SUCH_WAITER":
		return exitLost
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Unknown, codes.DeadlineExceeded, codes.ResourceExhausted:
		return exitNoDaemon
	case codes.InvalidArgument:
		return exitUsage
	case codes.PermissionDenied:
		return exitDenied
	}
	return exitInternal
}

// codeOfSentinel is the same for errors of a backend in this process.
func codeOfSentinel(err error) int {
	for _, row := range []struct {
		code int
		are  []error
	}{
		{exitNo, []error{driver.ErrHeld, driver.ErrDeadlock}},
		{exitLost, []error{driver.ErrLost, driver.ErrNotOwner, driver.ErrStaleToken, driver.ErrNoPlace}},
		{exitUsage, []error{driver.ErrInvalid}},
		{exitNoDaemon, []error{driver.ErrUnavailable, driver.ErrIndeterminate, driver.ErrQuarantined, driver.ErrClosed, driver.ErrLimit, context.DeadlineExceeded}},
	} {
		for _, is := range row.are {
			if errors.Is(err, is) {
				return row.code
			}
		}
	}
	return exitInternal
}
