package conformance_test

import (
	"context"
	"fmt"
	"regexp"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/conformance"
)

func ExampleRun() {
	m, err := embedded.NewMemory(embedded.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	report, err := conformance.Run(context.Background(), conformance.Harness{
		Open: func(context.Context) (driver.Driver, error) { return m.Open(), nil },
	}, conformance.Options{Filter: regexp.MustCompile("^Fencing/TokenRises(AfterRelease|AfterAWipe)$")})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(report.Summary())
	fmt.Println(report.Green())
	// Output:
	// Fencing/TokenRisesAfterAWipe: skipped, needs a harness that wipes the store
	// Fencing/TokenRisesAfterRelease: ran
	// true
}
