package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/conformance/remote"
	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/client"
)

func newConformance() *cobra.Command {
	var backendURL, endpoint, output, filter string
	var slow bool
	var o conformance.Options
	c := &cobra.Command{
		Use: "conformance", Short: "Certify a backend, or a running sidecar: exit 0 (all guarantees hold), 1 (some do not) or 2 (could not run)",
		Args: exactly(),
		Example: "  locksidecar conformance --backend redis://127.0.0.1:6379\n" +
			"  locksidecar conformance --endpoint unix:///run/locksidecar/api.sock -o junit",
	}
	f := c.Flags()
	f.StringVar(&backendURL, "backend", "", "backend URL; the cases use locks under conformance/")
	f.StringVar(&endpoint, "endpoint", "", "the socket of a running sidecar, unix:///path")
	f.StringVarP(&output, "output", "o", "table", "table, json or junit")
	f.StringVar(&filter, "run", "", "only cases whose names match this regular expression")
	f.Uint64Var(&o.Seed, "seed", 0, "decides the randomised histories (default: drawn)")
	f.IntVar(&o.Parallel, "parallel", 8, "cases at a time")
	f.BoolVar(&o.Long, "long", false, "the heavy variants: ten times the histories and the repetitions")
	f.BoolVar(&slow, "slow", false, "for an emulator, a call of which takes milliseconds of a processor: fewer repetitions, more patience")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if (backendURL == "") == (endpoint == "") {
			return usage("want either --backend URL or --endpoint unix:///path")
		}
		write := map[string]func(*conformance.Report) error{
			"table": func(r *conformance.Report) error { _, err := fmt.Fprint(c.OutOrStdout(), r.Table()); return err },
			"json":  func(r *conformance.Report) error { return r.JSON(c.OutOrStdout()) },
			"junit": func(r *conformance.Report) error { return r.JUnit(c.OutOrStdout()) },
		}[output]
		if write == nil {
			return usage("output %q: want table, json or junit", output)
		}
		if filter != "" {
			var err error
			if o.Filter, err = regexp.Compile(filter); err != nil {
				return usage("--run: %v", err)
			}
			if !slices.ContainsFunc(conformance.Cases(), func(c conformance.Case) bool { return o.Filter.MatchString(c.Name) }) {
				return usage("--run %q: no case has such a name; a run without it lists them", filter)
			}
		}
		if o.Parallel < 1 {
			return usage("--parallel %d: want 1 or more", o.Parallel)
		}
		h := remote.Harness(endpoint)
		var err error
		if backendURL != "" {
			h, err = backendHarness(c.Context(), backendURL)
		} else {
			err = client.ValidEndpoint(endpoint)
		}
		if err != nil {
			return &exitError{exitUsage, err}
		}
		h.Slow = slow
		report, err := conformance.Run(c.Context(), h, o)
		if err != nil {
			return &exitError{exitNotRun, err}
		}
		if err := write(report); err != nil {
			return err
		}
		if !report.Green() {
			return &exitError{exitNo, errors.New("not all declared guarantees hold")}
		}
		return nil
	}
	return c
}

// backendHarness opens drivers of a URL. What lives in memory is one store for
// all of them only within one driver, so further openers share the first.
func backendHarness(ctx context.Context, raw string) (conformance.Harness, error) {
	first, err := app.OpenDriver(ctx, raw, driver.Env{})
	if err != nil {
		return conformance.Harness{}, err
	}
	h := conformance.Harness{Endpoint: place(raw)}
	if o, ok := first.(interface{ Another() driver.Driver }); ok {
		h.Open = func(context.Context) (driver.Driver, error) { return o.Another(), nil }
		h.Server = func(context.Context) string { return "locksidecar " + build().Version }
		return h, nil
	}
	h.Open = func(ctx context.Context) (driver.Driver, error) { return app.OpenDriver(ctx, raw, driver.Env{}) }
	return h, first.Close()
}

// place is a backend URL without its user, for a certificate that others see.
func place(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}
