package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// measured names the measurements of a round, in their order.
type measured int

const (
	echoUnary measured = iota
	lockUnary
	echoStream
	lockStream
	storeAlone
	measurements
)

// round is what one pass over the yardstick, the sidecar and the store gave.
type round struct {
	rates [measurements]rate
	costs [measurements]cost
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "lsbench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	parts := processes{client: os.Getpid()}
	if o.backend == "" {
		r, err := testenv.StartRedis(ctx, testenv.RedisOptions{})
		if err != nil {
			return err
		}
		defer func() { _ = r.Stop() }()
		o.backend, parts.store = r.URL(), r.Pid()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	daemon := filepath.Join(dir, "locksidecar")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", daemon, "./cmd/locksidecar").CombinedOutput(); err != nil {
		return fmt.Errorf("building the sidecar: %w\n%s", err, out)
	}
	echoClient, echoPid, stopEcho, err := start(ctx, filepath.Join(dir, "echo.sock"), func(path string) *exec.Cmd {
		return exec.CommandContext(ctx, self, "echo", path)
	})
	if err != nil {
		return err
	}
	defer stopEcho()
	lockClient, lockPid, stopLock, err := start(ctx, filepath.Join(dir, "api.sock"), func(path string) *exec.Cmd {
		return exec.CommandContext(ctx, daemon, "serve", "--backend", o.backend, "--socket", path, "--limit-leases", strconv.Itoa(o.held+1000))
	})
	if err != nil {
		return err
	}
	defer stopLock()
	parts.echo, parts.sidecar = echoPid, lockPid
	store, err := openDirect(ctx, o.backend)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()

	fmt.Printf("%d in flight, %d rounds of %v each; operations a second, an acquire and a release are one each\n\n", o.inFlight, o.rounds, o.duration)
	var rounds []round
	for i := range o.rounds + 1 {
		r, err := measure(ctx, o, parts, echoClient, lockClient, store)
		if err != nil {
			return err
		}
		if i > 0 { // the first one warms up
			rounds = append(rounds, r)
		}
	}
	failures := report(rounds, o)
	if o.held > 0 {
		cost, err := heldCost(ctx, o, lockClient)
		if err != nil {
			return err
		}
		fmt.Printf("\ncost of an operation with %d held leases / with 10: %.2f (median of %d pairs)\n", o.held, cost, o.rounds)
		if o.maxHeld > 0 && cost > o.maxHeld {
			failures = append(failures, fmt.Errorf("held leases: %.2f > %.2f", cost, o.maxHeld))
		}
	}
	return errors.Join(failures...)
}

func measure(ctx context.Context, o options, parts processes, echo, lock lockpb.LockServiceClient, store direct) (r round, err error) {
	for i, run := range [measurements]func() (rate, error){
		echoUnary:  func() (rate, error) { return unary(ctx, echo, o) },
		lockUnary:  func() (rate, error) { return unary(ctx, lock, o) },
		echoStream: func() (rate, error) { return stream(ctx, echo, o) },
		lockStream: func() (rate, error) { return stream(ctx, lock, o) },
		storeAlone: func() (rate, error) { return store.drive(ctx, o) },
	} {
		if r.rates[i], r.costs[i], err = parts.costOf(run, o.duration); err != nil {
			return r, err
		}
	}
	return r, nil
}

// heldCost compares the stream's cost per operation with few and with many
// held leases, in pairs so that the machine's drift cancels out.
func heldCost(ctx context.Context, o options, c lockpb.LockServiceClient) (float64, error) {
	var ratios []float64
	for range o.rounds {
		var rates [2]rate
		for i, n := range []int{10, o.held} {
			release, err := hold(ctx, c, n)
			if err != nil {
				return 0, err
			}
			rates[i], err = stream(ctx, c, o)
			release()
			if err != nil {
				return 0, err
			}
			if err := drained(ctx, c, n); err != nil {
				return 0, err
			}
		}
		ratios = append(ratios, float64(rates[0]/rates[1]))
	}
	return median(ratios), nil
}

// drained waits until the leases of hold are gone, so that their release does
// not weigh on the next measurement.
func drained(ctx context.Context, c lockpb.LockServiceClient, n int) error {
	for i := range n {
		for {
			l, err := c.Get(ctx, &lockpb.GetRequest{LockId: fmt.Sprintf("bench/held/%d", i)})
			if err != nil {
				return err
			}
			if len(l.GetHolders()) == 0 {
				break
			}
			wait(ctx, 10*time.Millisecond)
		}
	}
	return nil
}

// start runs a server as a child and waits until its socket answers.
func start(ctx context.Context, path string, command func(path string) *exec.Cmd) (c lockpb.LockServiceClient, pid int, stop func(), err error) {
	cmd := command(path)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = testenv.DieWithParent(&syscall.SysProcAttr{})
	if err := cmd.Start(); err != nil {
		return nil, 0, nil, err
	}
	conn, err := dial(path)
	if err != nil {
		return nil, 0, nil, err
	}
	stop = func() {
		_ = conn.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	c = lockpb.NewLockServiceClient(conn)
	deadline := time.Now().Add(20 * time.Second)
	for {
		l, err := c.Acquire(ctx, &lockpb.AcquireRequest{LockId: "bench/ready", RequestId: requestID(0, 0)})
		if err == nil {
			_, err = c.Release(ctx, &lockpb.ReleaseRequest{
				LockId: "bench/ready", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(),
			})
		}
		if err == nil {
			return c, cmd.Process.Pid, stop, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			stop()
			return nil, 0, nil, fmt.Errorf("%s does not answer: %w", path, err)
		}
		wait(ctx, 50*time.Millisecond)
	}
}

func report(rounds []round, o options) (failures []error) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "round\tunary echo\tunary lock\tratio\tstream echo\tstream lock\tratio\tstore alone\tstream / store\t")
	var unaries, streams, stores []float64
	for i, r := range rounds {
		u, s := float64(r.rates[lockUnary]/r.rates[echoUnary]), float64(r.rates[lockStream]/r.rates[echoStream])
		d := float64(r.rates[lockStream] / r.rates[storeAlone])
		unaries, streams, stores = append(unaries, u), append(streams, s), append(stores, d)
		_, _ = fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%.2f\t%.0f\t%.0f\t%.2f\t%.0f\t%.2f\t\n",
			i+1, r.rates[echoUnary], r.rates[lockUnary], u, r.rates[echoStream], r.rates[lockStream], s, r.rates[storeAlone], d)
	}
	_, _ = fmt.Fprintf(w, "median\t\t\t%.2f\t\t\t%.2f\t\t%.2f\t\n", median(unaries), median(streams), median(stores))
	_ = w.Flush()
	reportCosts(rounds)
	if u := median(unaries); u < o.minUnary {
		failures = append(failures, fmt.Errorf("unary: %.2f of the echo < %.2f", u, o.minUnary))
	}
	if s := median(streams); s < o.minHold {
		failures = append(failures, fmt.Errorf("stream: %.2f of the echo < %.2f", s, o.minHold))
	}
	return failures
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
