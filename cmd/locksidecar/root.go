package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
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

// run runs the command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{codeOf(err), err}
	}
	if exit.err != nil {
		_, _ = fmt.Fprintln(errs, "locksidecar: "+describe(exit.err))
	}
	return exit.code
}

// describe is what a person reads.
func describe(err error) string {
	if client.NoDaemon(err) {
		return "no daemon answers (" + client.Message(err) + "); start one with: locksidecar dev, or name it by --endpoint or " + client.EndpointVariable
	}
	return client.Message(err)
}

// codeOf is the exit code of an error that no command has judged: cobra's own
// are about usage.
func codeOf(err error) int {
	if errors.Is(err, driver.ErrInvalid) {
		return exitUsage
	}
	if _, isStatus := status.FromError(err); !isStatus {
		if strings.HasPrefix(err.Error(), "unknown ") || strings.Contains(err.Error(), "arg(s)") ||
			strings.Contains(err.Error(), "flag") || strings.Contains(err.Error(), "invalid argument") {
			return exitUsage
		}
		return exitInternal
	}
	reason, _ := client.Reason(err)
	switch reason {
	case "LOCK_HELD", "DEADLOCK":
		return exitNo
	case "LEASE_LOST", "NOT_OWNER", "STALE_TOKEN":
		return exitLost
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Unknown:
		return exitNoDaemon
	case codes.InvalidArgument:
		return exitUsage
	case codes.PermissionDenied:
		return exitDenied
	}
	return exitInternal
}

// global are the flags of the commands that talk to a daemon.
type global struct {
	endpoint string
	output   string
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use: "locksidecar", Short: "Distributed locks with fencing tokens, from a sidecar on a Unix socket",
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(
		newDev(), newServe(), newLock(g), newAcquire(g), newRenew(g), newRelease(g), newGet(g), newList(g), newWatch(g),
		newForceRelease(g), newHealth(g), newConfig(), newConformance(), newVersion(),
	)
	return root
}

// connected makes a command that talks to a daemon.
func (g *global) connected(c *cobra.Command, do func(c *cobra.Command, cl *client.Client, args []string) error) *cobra.Command {
	c.Flags().StringVar(&g.endpoint, "endpoint", "", "the sidecar's socket, unix:///path (default $"+client.EndpointVariable+", then dev's, then serve's)")
	c.Flags().StringVarP(&g.output, "output", "o", "table", "table or json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if g.output != "table" && g.output != "json" {
			return usage("output %q: want table or json", g.output)
		}
		cl, err := client.New(client.Endpoint(g.endpoint))
		if err != nil {
			return &exitError{exitUsage, err}
		}
		defer func() { _ = cl.Close() }()
		return do(c, cl, args)
	}
	return c
}
