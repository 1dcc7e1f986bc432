// Command certify runs the conformance suite on a table of PostgreSQL and prints
// the certificate: what locksidecar conformance does for the drivers that are
// built into it.
//
// It exits with 0 if every guarantee holds, 1 if one does not, 2 if the suite
// could not run, and 64 if it was called wrongly. The cases use locks under
// conformance/, in a table of their own if the URL's prefix names one.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/conformance/examples/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := certify(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func certify(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("certify", flag.ContinueOnError)
	output := flags.String("o", "table", "table, json or junit")
	run := flags.String("run", "", "only cases whose names match this regular expression")
	seed := flags.Uint64("seed", 0, "decides the random histories; 0 draws one")
	if flags.Parse(args) != nil || flags.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: certify [flags] postgres://user@host/database")
		return 64
	}
	filter, err := regexp.Compile(*run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "certify: -run:", err)
		return 64
	}
	report, err := conformance.Run(ctx, harness(flags.Arg(0)), conformance.Options{Filter: filter, Seed: *seed})
	if err != nil {
		fmt.Fprintln(os.Stderr, "certify:", err)
		return 2
	}
	switch *output {
	case "json":
		err = report.JSON(os.Stdout)
	case "junit":
		err = report.JUnit(os.Stdout)
	default:
		_, err = fmt.Print(report.Table())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "certify:", err)
		return 2
	}
	if !report.Green() {
		return 1
	}
	return 0
}

// harness opens drivers by their URL, and can do nothing else with the server.
func harness(url string) conformance.Harness {
	var stores backend.Mux
	stores.Register(postgres.Schemes, postgres.OpenURL)
	return conformance.Harness{
		Open: func(ctx context.Context) (driver.Driver, error) { return stores.Open(ctx, url, driver.Env{}) },
	}
}
