package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/locksidecar/locksidecar/internal/client"
	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func newDrain(g *global) *cobra.Command {
	var req lockpb.DrainRequest
	var wait, hold seconds
	c := &cobra.Command{
		Use: "drain LOCK", Short: "Keep everybody from being granted a lock, until interrupted", Args: exactly("LOCK"),
		Long: "Keep everybody from being granted a lock, until interrupted. Whoever holds it keeps it; when they have released it,\n" +
			"the command prints \"drained\": from then on nobody uses what the lock protects. Those who wait keep their places.\n\n" +
			"The exit code is 0 if the lock was drained when a signal or --for ended it, 1 if --wait ran out before.",
		Example: "  locksidecar drain orders/42 --reason 'the printer is repaired' --for 1h",
	}
	c.Flags().StringVar(&req.Reason, "reason", "", "why: whoever inspects the lock sees it")
	c.Flags().VarP(&wait, "wait", "w", "how long to wait for the holders; bare numbers are seconds (default: until interrupted)")
	c.Flags().Var(&hold, "for", "how long to keep the lock drained; bare numbers are seconds (default: until interrupted)")
	return g.operates(c, func(c *cobra.Command, cl *client.Client, args []string) error {
		if err := required(c, "reason"); err != nil {
			return err
		}
		req.LockId, req.Wait, req.MaxHold = args[0], wait.proto(), hold.proto()
		return g.drain(c, cl, &req)
	})
}

// drain tells the events of a drain until it ends.
func (g *global) drain(c *cobra.Command, cl *client.Client, req *lockpb.DrainRequest) error {
	out := c.OutOrStdout()
	tell := func(m proto.Message, format string, args ...any) error {
		if g.output == "json" {
			return printJSON(out, m)
		}
		_, err := fmt.Fprintf(out, format+"\n", args...)
		return err
	}
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	stream, err := cl.Drain(ctx, req)
	if err != nil {
		return err
	}
	drained := false
	for {
		r, err := stream.Recv()
		if err != nil {
			if drained && c.Context().Err() != nil {
				return nil
			}
			return err
		}
		switch e := r.GetEvent().(type) {
		case *lockpb.HoldResponse_Queued:
			err = tell(r, "waiting: at %d of %d", e.Queued.GetPosition(), e.Queued.GetQueueLength())
		case *lockpb.HoldResponse_Granted:
			drained = true
			err = tell(r, "drained: nobody else has %s, token %d; interrupt this to end it", req.GetLockId(), e.Granted.GetFencingToken())
		case *lockpb.HoldResponse_AtRisk:
			err = tell(r, "at risk: %v left", e.AtRisk.GetValidFor().AsDuration().Round(time.Millisecond))
		case *lockpb.HoldResponse_Lost:
			if e.Lost.GetReason() == string(renew.ReasonMaxHold) {
				return tell(r, "the time is over")
			}
			return &exitError{exitLost, fmt.Errorf("the drain of %q has ended: %s", req.GetLockId(), e.Lost.GetReason())}
		case *lockpb.HoldResponse_Error:
			return client.ErrorOf(e.Error)
		}
		if err != nil {
			return err
		}
	}
}
