package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func newCancelWaiter(g *global) *cobra.Command {
	var req lockpb.CancelWaiterRequest
	c := &cobra.Command{
		Use: "cancel-waiter LOCK", Short: "End another's wait for a lock", Args: exactly("LOCK"),
		Long: "End another's wait for a lock: its place leaves the queue, and its acquire fails with LEASE_LOST, cause forced.\n" +
			"Whoever holds the lock keeps it.",
		Example: "  locksidecar cancel-waiter orders/42 --ticket 7 --reason 'batch-9 may wait no longer'",
	}
	c.Flags().Int64Var(&req.Ticket, "ticket", 0, "the place's ticket as get shows it: a place taken since is not touched")
	c.Flags().StringVar(&req.Reason, "reason", "", "why")
	return g.operates(c, func(c *cobra.Command, cl *client.Client, args []string) error {
		if err := required(c, "ticket", "reason"); err != nil {
			return err
		}
		ctx, cancel := client.Deadline(c.Context())
		defer cancel()
		req.LockId = args[0]
		r, err := cl.CancelWaiter(ctx, &req)
		if err != nil {
			return err
		}
		if g.output == "json" {
			return printJSON(c.OutOrStdout(), r)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "ended the wait of %s, ticket %d\n", r.GetWaiter().GetOwnerId(), r.GetWaiter().GetTicket())
		return err
	})
}

func newReprioritize(g *global) *cobra.Command {
	var req lockpb.ReprioritizeRequest
	c := &cobra.Command{
		Use: "reprioritize LOCK", Short: "Give another's place in a queue another priority", Args: exactly("LOCK"),
		Example: "  locksidecar reprioritize orders/42 --ticket 7 --priority 9 --reason 'the customer waits'",
	}
	c.Flags().Int64Var(&req.Ticket, "ticket", 0, "the place's ticket as get shows it")
	c.Flags().Uint32Var(&req.Priority, "priority", 0, "0 to 9: a head start of 8 places a level")
	c.Flags().BoolVar(&req.First, "first", false, "before all others, instead of a priority")
	c.Flags().StringVar(&req.Reason, "reason", "", "why")
	return g.operates(c, func(c *cobra.Command, cl *client.Client, args []string) error {
		want := []string{"ticket", "priority", "reason"}
		if req.First {
			want = []string{"ticket", "reason"}
		}
		if err := required(c, want...); err != nil {
			return err
		}
		if req.First && c.Flags().Changed("priority") {
			return usage("--priority and --first: want one of them")
		}
		ctx, cancel := client.Deadline(c.Context())
		defer cancel()
		req.LockId = args[0]
		r, err := cl.Reprioritize(ctx, &req)
		if err != nil {
			return err
		}
		if g.output == "json" {
			return printJSON(c.OutOrStdout(), r)
		}
		return printWaiter(c.OutOrStdout(), r.GetWaiter())
	})
}

// printWaiter prints a place in one line.
func printWaiter(w io.Writer, p *lockpb.Waiter) error {
	_, err := fmt.Fprintf(w, "%3d. %s (%s, %s, ticket %d)\n", p.GetPosition(), p.GetOwnerId(), mode(p.GetShared()), priorityOf(p), p.GetTicket())
	return err
}

func priorityOf(p *lockpb.Waiter) string {
	if p.GetPriority() == driver.FirstPriority {
		return "before all others"
	}
	return fmt.Sprintf("priority %d", p.GetPriority())
}
