// Command bench measures what the sidecar costs on top of bare gRPC and on top
// of the store.
//
// It guarantees that the figures which it divides come from one run: in each
// round the same client drives, one after the other, an echo server that
// answers the same messages from memory, the sidecar on a store, and the store
// alone through the driver. What it prints are the ratios of a round and their
// median, and, on Linux, the CPU time that an operation took in each process. It
// does not guarantee absolute figures: they belong to the machine.
//
// Usage: go run ./internal/bench [-backend URL] [-rounds N] [-seconds S]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// options are the command line's.
type options struct {
	backend  string
	rounds   int
	duration time.Duration
	inFlight int
	held     int
	minHold  float64
	minUnary float64
	maxHeld  float64
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "echo" {
		exit(serveEcho(os.Args[2]))
	}
	var o options
	var seconds float64
	flag.StringVar(&o.backend, "backend", "", "backend URL; default: a redis-server of its own")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the medians are over them")
	flag.Float64Var(&seconds, "seconds", 2, "seconds of each measurement")
	flag.IntVar(&o.inFlight, "in-flight", 64, "requests in flight")
	flag.IntVar(&o.held, "held", 10_000, "leases held in the second half of the comparison by held leases; 0 leaves it out")
	flag.Float64Var(&o.minHold, "min-hold", 0, "fail if Hold reaches less than this share of the stream echo")
	flag.Float64Var(&o.minUnary, "min-unary", 0, "fail if unary reaches less than this share of the unary echo")
	flag.Float64Var(&o.maxHeld, "max-held", 0, "fail if an operation with many held leases costs more than this multiple of one with 10")
	flag.Parse()
	o.duration = time.Duration(seconds * float64(time.Second))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, o))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
