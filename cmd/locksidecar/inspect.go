package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func newGet(g *global) *cobra.Command {
	c := &cobra.Command{Use: "get LOCK", Short: "Show a lock, its holders and waiters", Args: exactly("LOCK")}
	return g.operates(c, func(c *cobra.Command, cl *client.Client, args []string) error {
		ctx, cancel := client.Deadline(c.Context())
		defer cancel()
		l, err := cl.Get(ctx, &lockpb.GetRequest{LockId: args[0]})
		if err != nil {
			return err
		}
		if g.output == "json" {
			return printJSON(c.OutOrStdout(), l)
		}
		if err := headed(c.OutOrStdout(), painted(c.OutOrStdout()), append([][]string{lockHeader}, lockRows(l)...)...); err != nil {
			return err
		}
		for _, w := range l.GetWaiters() {
			if err := printWaiter(c.OutOrStdout(), w); err != nil {
				return err
			}
		}
		return nil
	})
}

func newForceRelease(g *global) *cobra.Command {
	var req lockpb.ForceReleaseRequest
	c := &cobra.Command{
		Use: "force-release LOCK", Short: "Revoke another's lease", Args: exactly("LOCK"),
		Long: "Revoke another's lease: it cannot be renewed any more, its holder is told, and the lock passes on\n" +
			"with the holder's release or when the lease's time is over.",
		Example: "  locksidecar force-release orders/42 --token 1790000000000000 --reason 'web-1 hangs'",
	}
	c.Flags().Int64Var(&req.FencingToken, "token", 0, "the lease's token as get shows it: a lease granted since is not touched")
	c.Flags().StringVar(&req.Reason, "reason", "", "why")
	c.Flags().BoolVar(&req.Immediate, "immediate", false, "end the lease at once: until its time is over only the fencing token protects")
	return g.operates(c, func(c *cobra.Command, cl *client.Client, args []string) error {
		if err := required(c, "token", "reason"); err != nil {
			return err
		}
		ctx, cancel := client.Deadline(c.Context())
		defer cancel()
		req.LockId = args[0]
		r, err := cl.ForceRelease(ctx, &req)
		if err != nil {
			return err
		}
		if g.output == "json" {
			return printJSON(c.OutOrStdout(), r)
		}
		what := "revoked the lease of"
		if r.GetEnded() {
			what = "ended the lease of"
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s, token %d\n", what, r.GetHolder().GetOwnerId(), r.GetHolder().GetFencingToken())
		return err
	})
}

func newHealth(g *global) *cobra.Command {
	c := &cobra.Command{Use: "health", Short: "Ask whether the daemon and its backend serve: exit 0, 1 (not serving) or 69 (no daemon)", Args: exactly()}
	var live bool
	c.Flags().BoolVar(&live, "live", false, "ask the daemon alone: exit 0 as soon as it answers, whatever its backends do")
	return g.connected(c, func(c *cobra.Command, cl *client.Client, _ []string) error {
		ctx, cancel := client.Deadline(c.Context())
		defer cancel()
		r, err := cl.Health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			return err
		}
		serving := r.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING
		switch {
		case g.output == "json":
			err = printJSON(c.OutOrStdout(), r)
		case live:
			_, err = fmt.Fprintln(c.OutOrStdout(), "live")
		case serving:
			_, err = fmt.Fprintln(c.OutOrStdout(), "serving")
		}
		if err == nil && !serving && !live {
			err = &exitError{exitNo, fmt.Errorf("%w: the daemon answers, its backend does not; its log says why", client.ErrNotServing)}
		}
		return err
	})
}
