package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/config"
)

func newConfig() *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "Check a configuration, and ask it where a lock is led to", Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newConfigValidate(), newConfigExplain(), newConfigSchema())
	return c
}

// loadFile reads the file that --config or the variable names, and nothing over
// it.
func (s *settings) loadFile() (*config.Config, error) {
	if s.file = fallback(s.file, configVariable); s.file == "" {
		return nil, usage("no file: use --config or %s", configVariable)
	}
	c, err := s.load()
	if errors.Is(err, config.ErrNoBackend) {
		err = fmt.Errorf("configuration %s: %w", s.file, err)
	}
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return c, nil
}

func newConfigValidate() *cobra.Command {
	from := &settings{}
	c := &cobra.Command{
		Use: "validate", Short: "Check a configuration file as serve would read it", Args: exactly(),
		Long: "Check a configuration file as serve would read it, without other flags and variables over it. The backends are\n" +
			"not asked: their URLs, and the files that these name, are checked.",
		Example: "  locksidecar config validate --config /etc/locksidecar/config.yaml",
	}
	from.configFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		loaded, err := from.loadFile()
		if err == nil {
			err = app.Check(c.Context(), loaded)
		}
		if err != nil {
			return &exitError{exitUsage, err}
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is valid: backends %d, routes %d\n", from.file, len(loaded.Backends), len(loaded.Routes))
		return err
	}
	return c
}

func newConfigExplain() *cobra.Command {
	from, output := &settings{}, ""
	c := &cobra.Command{
		Use: "explain LOCK", Short: "Say which route of a configuration file wins for a lock, and why", Args: exactly("LOCK"),
		Long: "Say which route of a configuration file wins for a lock, and why. It exits with 1 if none does. What a running\n" +
			"daemon still has on an older backend is not known here.",
		Example: "  locksidecar config explain --config /etc/locksidecar/config.yaml payments/eu/ledger",
	}
	from.configFlag(c)
	printsAs(c, &output)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := validOutput(output); err != nil {
			return err
		}
		if err := backend.ValidLockID(args[0]); err != nil {
			return &exitError{exitUsage, err}
		}
		loaded, err := from.loadFile()
		if err != nil {
			return err
		}
		e := loaded.Explain(args[0])
		if output == "json" {
			raw, err := json.MarshalIndent(e, "", "  ")
			if err == nil {
				_, err = fmt.Fprintln(c.OutOrStdout(), string(raw))
			}
			if err != nil {
				return err
			}
		} else if err := printExplanation(c, e); err != nil {
			return err
		}
		if !e.Matched {
			return &exitError{code: exitNo}
		}
		return nil
	}
	return c
}

func printExplanation(c *cobra.Command, e *config.Explanation) error {
	rows := make([][]string, 0, len(e.Steps)+4)
	for _, s := range e.Steps {
		place, verdict := fmt.Sprintf("route %d", s.Route), "matches, and wins"
		if s.Line > 0 {
			place += fmt.Sprintf(" (line %d)", s.Line)
		}
		if s.Why != "" {
			verdict = "does not match: " + s.Why
		}
		rows = append(rows, []string{place, s.Pattern, verdict})
	}
	if err := table(c.OutOrStdout(), rows...); err != nil {
		return err
	}
	if !e.Matched {
		_, err := fmt.Fprintf(c.OutOrStdout(), "\nno route matches %s: it is refused with NO_ROUTE\n", e.LockID)
		return err
	}
	rows = [][]string{{"backend", e.Backend}}
	for _, r := range [][]string{{"store", e.Store}, {"ttl", e.TTL}, {"max_hold", e.MaxHold}} {
		if r[1] != "" {
			rows = append(rows, r)
		}
	}
	if _, err := fmt.Fprintln(c.OutOrStdout()); err != nil {
		return err
	}
	return table(c.OutOrStdout(), rows...)
}

func newConfigSchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the configuration file", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(config.Schema())
			return err
		},
	}
}
