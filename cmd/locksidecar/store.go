package main

import (
	"errors"
	"fmt"
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
	var url string
	c := &cobra.Command{
		Use: "init", Short: "Stamp a new store, so that its first grants need no quarantine", Args: exactly(),
		Long: "Stamp a new store, so that its first grants need no quarantine.\n\n" +
			"A Redis on which locksidecar meets no stamp may have lost leases that still stand, so nothing is granted on it\n" +
			"until the longest of them must have ended (60 s). Only you can know that it is new. Run this once, before the\n" +
			"first sidecar; never run it on a store that was emptied or restored while locks were held. A store that has\n" +
			"stamps is left as it is.",
		Example: "  locksidecar store init --backend redis://127.0.0.1:6379",
	}
	c.Flags().StringVar(&url, "backend", "", "backend URL (default $LOCKSIDECAR_BACKEND)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if url = fallback(url, "LOCKSIDECAR_BACKEND"); url == "" {
			return usage("want --backend URL or LOCKSIDECAR_BACKEND")
		}
		d, err := app.OpenDriver(c.Context(), url, driver.Env{})
		if err != nil {
			return &exitError{exitUsage, err}
		}
		defer func() { _ = d.Close() }()
		store, ok := driver.As[driver.Initializer](d)
		if !ok {
			_, err := fmt.Fprintln(c.OutOrStdout(), "this store needs no stamp")
			return err
		}
		done, err := store.Init(c.Context())
		said := "the store is stamped: leases are granted at once"
		var q *driver.QuarantineError
		switch {
		case errors.As(err, &q):
			return &exitError{exitNoDaemon, fmt.Errorf(
				"the store has stamps already and stays in quarantine: nothing was changed; it opens by itself in %v", q.Remaining.Round(time.Second))}
		case err != nil:
			return err
		case !done:
			said = "the store was stamped before: nothing was changed"
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), said)
		return err
	}
	return c
}
