package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version and revision are set by the linker for a release. Without the second one,
// what the build noted of the repository counts.
var version, revision = "dev", ""

// The exit codes, which are the daemon's.
const (
	exitRefused  = 1  // a pod is refused
	exitUsage    = 64 // usage or configuration
	exitInternal = 70
)

// exitError ends the command with a code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
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
	_, _ = fmt.Fprintln(errs, "locksidecar-injector: "+err.Error())
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		return exit.code
	}
	return exitInternal
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "locksidecar-injector", Short: "Puts the locksidecar sidecar into the pods of Kubernetes that ask for it",
		SilenceUsage: true, SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q; locksidecar-injector --help lists the commands", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w; %s --help lists the flags", err, c.CommandPath())
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newServe(), newInject(), newVersion())
	return root
}

// nothing takes no arguments.
func nothing(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%q is one argument too many; want: %s", args[0], c.UseLine())
	}
	return nil
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: nothing,
		RunE: func(c *cobra.Command, _ []string) error {
			line := strings.Join(strings.Fields("locksidecar-injector "+version+" "+built()+" "+runtime.Version()), " ")
			_, err := fmt.Fprintln(c.OutOrStdout(), line)
			return err
		},
	}
}

// built is the revision that the binary is of; empty if nobody said.
func built() string {
	if info, ok := debug.ReadBuildInfo(); ok && revision == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return revision
}
