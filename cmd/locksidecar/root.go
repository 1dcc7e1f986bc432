package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/client"
)

// run runs the command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	printed := &checked{w: out}
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(printed)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil && printed.err != nil {
		err = fmt.Errorf("writing to standard output: %w", printed.err)
	}
	if err == nil {
		return 0
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		if signal := interrupted(ctx); signal != nil && errors.As(signal, &exit) {
			return exit.code
		}
		exit = &exitError{codeOf(err), err}
	}
	if exit.err != nil {
		_, _ = fmt.Fprintln(errs, "locksidecar: "+secrets.Hide(describe(exit.err)))
	}
	return exit.code
}

// checked remembers that a write failed: whoever printed may not have looked.
type checked struct {
	w   io.Writer
	err error
}

func (c *checked) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		c.err = err
	}
	return n, err
}

// global are the flags of the commands that talk to a daemon.
type global struct {
	endpoint string
	output   string
	// backend is the store's URL of an operator's command, instead of a daemon.
	backend string
}

func newRoot() *cobra.Command {
	g := &global{}
	root := &cobra.Command{
		Use: "locksidecar", Short: "Distributed locks with fencing tokens, from a sidecar on a Unix socket",
		SilenceUsage: true, SilenceErrors: true, Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }, SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage("%w; %s --help lists the flags", inWords(err), c.CommandPath())
	})
	root.AddCommand(
		newDev(), newServe(), newLock(g), newAcquire(g), newRenew(g), newRelease(g), newGet(g), newList(g), newWatch(g),
		newForceRelease(g), newCancelWaiter(g), newReprioritize(g), newDrain(g), newDeadlocks(g), newHealth(g), newStore(), newConfig(), newAudit(), newConformance(), newVersion(), newCompletion(),
	)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelp())
	return root
}

// inWords is the error of a flag whose value is no number, without the words of
// the library that could not read it.
func inWords(err error) error {
	var invalid *pflag.InvalidValueError
	var number *strconv.NumError
	if !errors.As(err, &invalid) || !errors.As(err, &number) {
		return err
	}
	want := "want a whole number"
	if invalid.GetFlag().Value.Type() == "bool" {
		want = "want true or false"
	}
	if errors.Is(err, strconv.ErrRange) {
		want += ", this one is too large"
	}
	return fmt.Errorf("--%s %q: %s", invalid.GetFlag().Name, invalid.GetValue(), want)
}

// knownCommand refuses what is no command, and names those that are like it.
func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "locksidecar --help lists the commands"
	if like := c.SuggestionsFor(args[0]); len(like) > 0 {
		hint = "did you mean " + strings.Join(like, " or ") + "? " + hint
	}
	return usage("unknown command %q; %s", args[0], hint)
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about a command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return knownCommand(c.Root(), args)
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// exactly takes one argument for each name, and says which is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage("%s is missing; want: %s", names[len(args)], c.UseLine())
		case len(args) > len(names):
			return usage("%q is one argument too many; want: %s", args[len(names)], c.UseLine())
		}
		return nil
	}
}

// required refuses to go on without the flags.
func required(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if !c.Flags().Changed(name) {
			return usage("--%s is missing: %s", name, c.Flags().Lookup(name).Usage)
		}
	}
	return nil
}

// printsAs adds -o.
func printsAs(c *cobra.Command, output *string) {
	c.Flags().StringVarP(output, "output", "o", "table", "table or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

func validOutput(output string) error {
	if output != "table" && output != "json" {
		return usage("--output %q: want table or json", output)
	}
	return nil
}

// connects adds the flags of a command that talks to a daemon.
func (g *global) connects(c *cobra.Command) {
	c.Flags().StringVar(&g.endpoint, "endpoint", "", "the sidecar's socket, unix:///path (default $"+client.EndpointVariable+", then dev's, then serve's)")
	printsAs(c, &g.output)
}

// dial returns a client of the endpoint that was asked for.
func (g *global) dial() (*client.Client, error) {
	if err := validOutput(g.output); err != nil {
		return nil, err
	}
	cl, err := client.Open(g.endpoint)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return cl, nil
}

// operates makes an operator's command about a lock.
func (g *global) operates(c *cobra.Command, do func(c *cobra.Command, cl *client.Client, args []string) error) *cobra.Command {
	return g.orDirect(g.completes(c), do)
}

// orDirect makes a command that talks to a daemon, or, where none runs, to a
// backend: by a sidecar of this process's own.
func (g *global) orDirect(c *cobra.Command, do func(c *cobra.Command, cl *client.Client, args []string) error) *cobra.Command {
	c = g.connected(c, do)
	c.Flags().StringVar(&g.backend, "backend", "", "no daemon: the URL of the backend itself")
	viaDaemon := c.RunE
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if g.backend == "" {
			return viaDaemon(c, args)
		}
		if g.endpoint != "" {
			return usage("--backend and --endpoint: want one of them")
		}
		log, err := directLog(c.ErrOrStderr(), "info", g.backend)
		if err != nil {
			return err
		}
		endpoint, end, err := app.Private(c.Context(), g.backend, log)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		defer func() { err = errors.Join(err, end()) }()
		g.endpoint = endpoint
		return viaDaemon(c, args)
	}
	return c
}

// connected makes a command that talks to a daemon.
func (g *global) connected(c *cobra.Command, do func(c *cobra.Command, cl *client.Client, args []string) error) *cobra.Command {
	g.connects(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		cl, err := g.dial()
		if err != nil {
			return err
		}
		defer func() { _ = cl.Close() }()
		return do(c, cl, args)
	}
	return c
}
