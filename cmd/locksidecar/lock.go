package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/internal/client"
)

// The environment of the child.
const (
	childLockID = "LOCKSIDECAR_LOCK_ID"
	childToken  = "LOCKSIDECAR_FENCING_TOKEN" //nolint:gosec // a name; and the token is no secret
)

func newLock(g *global) *cobra.Command {
	var a acquireFlags
	refused := exitNo
	c := &cobra.Command{
		Use: "lock LOCK -- COMMAND [ARG…]", Short: "Run a command while holding a lock, like flock(1) over a fleet",
		Long: "Run a command while holding a lock. The command runs without a shell in a process group of its own, with\n" +
			childLockID + " and " + childToken + " in its environment; signals are passed on to the group. When the lease\n" +
			"is lost, the group gets SIGTERM, and SIGKILL before the lease's time is over.\n\n" +
			"Exits with the command's own code, 128+n if signal n ended it, 1 (or -E) if the lock was not acquired, 75 if\n" +
			"the lease was lost.",
		Example: "  locksidecar lock nightly-report -- ./report.sh\n  locksidecar lock -n -E 0 cleanup -- ./cleanup.sh",
		Args: func(c *cobra.Command, args []string) error {
			if c.ArgsLenAtDash() != 1 || len(args) < 2 {
				return usage("want: locksidecar %s", c.Use)
			}
			return nil
		},
	}
	a.register(c)
	c.Flags().IntVarP(&refused, "conflict-exit-code", "E", exitNo, "exit code if the lock was not acquired")
	return g.connected(c, func(c *cobra.Command, cl *client.Client, args []string) error {
		// Signals are passed on from here; they end the wait, not the command.
		signals := make(chan os.Signal, 16)
		signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
		defer signal.Stop(signals)

		h, err := take(c.Context(), cl, a.request(args[0]))
		if err != nil {
			var s os.Signal
			select {
			case s = <-signals:
				return &exitError{code: 128 + int(s.(syscall.Signal))}
			default:
			}
			if reason, _ := client.Reason(err); reason == "LOCK_HELD" {
				return &exitError{refused, err}
			}
			return err
		}
		defer h.close()
		return supervise(h, args[1:], signals)
	})
}

const (
	// killMargin is how long before valid-until the group is killed.
	killMargin = 150 * time.Millisecond
	// termShare: the group gets SIGTERM when this share of the TTL is left and
	// the lease has not been renewed, or as soon as it is lost.
	termShare = 4
)

// supervise runs the command for as long as the lease is held.
func supervise(h *held, argv []string, signals <-chan os.Signal) error {
	lease := h.lease()
	child, err := start(argv, childLockID+"="+lease.GetLockId(), fmt.Sprintf("%s=%d", childToken, lease.GetFencingToken()))
	if err != nil {
		return errors.Join(&exitError{notRunnable(err), err}, h.release())
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	ending := false
	for {
		select {
		case s := <-signals:
			child.signal(s.(syscall.Signal))
		case <-tick.C: // no decision rests on a timer alone: the clock is read
			left, lost := h.left()
			if !ending && (lost || left < lease.GetTtl().AsDuration()/termShare) {
				ending = true
				child.signal(syscall.SIGTERM)
				child.signal(syscall.SIGCONT)
			}
			if ending && left < killMargin {
				child.signal(syscall.SIGKILL)
			}
		case <-child.ended:
			if ending {
				child.signal(syscall.SIGKILL) // what is left of the group
			}
			err := h.release()
			if ending {
				return &exitError{exitLost, fmt.Errorf("the lease of %q was lost (%s); the command was ended", lease.GetLockId(), h.reason())}
			}
			if err != nil {
				_, _ = fmt.Fprintf(os.Stderr, "locksidecar: releasing %q: %s; it is free when its time is over\n", lease.GetLockId(), describe(err))
			}
			return child.exit()
		}
	}
}

// notRunnable is the shells' code for a command that cannot be run.
func notRunnable(err error) int {
	if errors.Is(err, os.ErrNotExist) {
		return 127
	}
	return 126
}

// releaseTimeout bounds the release at the end.
const releaseTimeout = 5 * time.Second

// background is the context of what goes on although the command was told to
// end.
func background() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}
