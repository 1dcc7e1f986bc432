// Command app is the application of the tests on a node: it does with its sidecar
// what a test tells it to, and says what came of it. The test serves both over
// HTTP, in the network that the pods share with it.
//
//	app direct URL       does what the test says, one instruction after the other
//	app count URL LOCK   adds to the test's counter under the lock, until SIGTERM
//	app pause            waits until it is ended
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing is left to do but what stop does
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "pause" || len(args) == 0: // as an image's entry point
		<-ctx.Done()
		return nil
	case len(args) == 2 && args[0] == "direct":
		return direct(ctx, &test{url: args[1], pod: os.Getenv("POD")})
	case len(args) == 3 && args[0] == "count":
		return count(ctx, &test{url: args[1], pod: os.Getenv("POD")}, args[2])
	}
	return fmt.Errorf("usage: app direct URL | count URL LOCK | pause")
}
