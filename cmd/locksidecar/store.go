package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/app"
)

func newStore() *cobra.Command {
	c := &cobra.Command{
		Use: "store", Short: "Look after a store of locks", Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newStoreInit())
	return c
}

func newStoreInit() *cobra.Command {
	from := &settings{}
	c := &cobra.Command{
		Use: "init", Short: "Stamp a new store, so that its first grants need no quarantine", Args: exactly(),
		Long: "Stamp a new store, so that its first grants need no quarantine.\n\n" +
			"A Redis on which locksidecar meets no stamp may have lost leases that still stand, so nothing is granted on it\n" +
			"until the longest of them must have ended (60 s). Only you can know that it is new. Run this once, before the\n" +
			"first sidecar; never run it on a store that was emptied or restored while locks were held. A store that has\n" +
			"stamps is left as it is.",
		Example: "  locksidecar store init --backend redis://127.0.0.1:6379\n  locksidecar store init --config /etc/locksidecar/config.yaml",
	}
	c.Flags().StringVar(&from.o.Backend, "backend", "", "backend URL (default $"+backendVariable+")")
	c.Flags().StringVar(&from.file, "config", "", "configuration file, to stamp each store to which a route of it leads")
	c.RunE = func(c *cobra.Command, _ []string) error {
		switch {
		case from.file != "" && from.o.Backend != "":
			return usage("want --backend or --config, one of the two")
		case from.file != "":
			return stampAll(c, from)
		}
		backend := fallback(from.o.Backend, backendVariable)
		if backend == "" {
			return usage("want --backend URL, %s or --config FILE", backendVariable)
		}
		said, err := stamp(c.Context(), backend)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), said)
		return err
	}
	return c
}

// stampAll stamps each store of a configuration file. One that fails does not
// spare the others.
func stampAll(c *cobra.Command, from *settings) error {
	loaded, err := from.loadFile()
	if err != nil {
		return err
	}
	var failed []error
	for _, b := range loaded.Backends {
		said, err := noStamp, error(nil)
		// A file is its daemon's alone, and need not even be on this host.
		if u, wrong := url.Parse(b.URL); wrong != nil || u.Scheme != "embedded" {
			said, err = stamp(c.Context(), b.URL)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("backend %q: %w", b.Name, err))
		} else if _, err := fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", b.Name, said); err != nil {
			return err
		}
	}
	if err := errors.Join(failed...); err != nil {
		code := codeOf(err)
		var exit *exitError
		if errors.As(err, &exit) {
			code = exit.code
		}
		return &exitError{code, err}
	}
	return nil
}

const noStamp = "this store needs no stamp"

// stamp stamps one store and says what that did.
func stamp(ctx context.Context, backend string) (said string, err error) {
	secrets.Add(secretsOf(backend)...)
	d, err := app.OpenDriver(ctx, backend, driver.Env{})
	if err != nil {
		return "", &exitError{exitUsage, err}
	}
	defer func() { _ = d.Close() }()
	store, ok := driver.As[driver.Initializer](d)
	if !ok {
		return noStamp, nil
	}
	done, err := store.Init(ctx)
	var q *driver.QuarantineError
	switch {
	case errors.As(err, &q):
		return "", &exitError{exitNoDaemon, fmt.Errorf(
			"the store has stamps already and stays in quarantine: nothing was changed; it opens by itself in %v", q.Remaining.Round(time.Second))}
	case err != nil:
		return "", err
	case !done:
		return "the store was stamped before: nothing was changed", nil
	}
	return "the store is stamped: leases are granted at once", nil
}
