package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func newDeadlocks(g *global) *cobra.Command {
	c := &cobra.Command{
		Use: "deadlocks", Short: "Look for owners who wait for each other", Args: exactly(),
		Long: "Look for owners who wait for each other, over all backends of the sidecar, and show each cycle: who waits for\n" +
			"which lock, and who is in the way with which token. The one marked with * is refused if the configuration says\n" +
			"that deadlocks are to be broken. Exit 0, also if there are some.",
		Example: "  locksidecar deadlocks -o json | jq '.deadlocks[].waits[].lock_id'",
	}
	return g.orDirect(c, func(c *cobra.Command, cl *client.Client, _ []string) error {
		ctx, cancel := client.Deadline(c.Context())
		defer cancel()
		s, err := cl.GetStatus(ctx, &lockpb.GetStatusRequest{FindDeadlocks: true})
		if err != nil {
			return err
		}
		for _, name := range s.GetDeadlockSearch().GetFailed() {
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "locksidecar: the backend %q could not be read: what is there is not seen\n", name)
		}
		if s.GetDeadlockSearch().GetTruncated() {
			_, _ = fmt.Fprintln(c.ErrOrStderr(), "locksidecar: a limit was reached: there may be more deadlocks")
		}
		if g.output == "json" {
			return printFound(c.OutOrStdout(), s)
		}
		return printDeadlocks(c.OutOrStdout(), painted(c.OutOrStdout()), s)
	})
}

// printFound prints what the status says about deadlocks, as the HTTP API gives it.
func printFound(w io.Writer, s *lockpb.Status) error {
	found := &lockpb.Status{Deadlocks: s.GetDeadlocks(), DeadlockSearch: s.GetDeadlockSearch()}
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true, Multiline: true}.Marshal(found)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(raw))
	return err
}

func printDeadlocks(w io.Writer, p paint, s *lockpb.Status) error {
	rows := [][]string{{"DEADLOCK", "OWNER", "WAITS FOR", "LOCK", "TOKEN", "BACKEND"}}
	for _, d := range s.GetDeadlocks() {
		for i, wait := range d.GetWaits() {
			mark, token := "", "-"
			if i == int(d.GetVictim()) {
				mark = " *"
			}
			if wait.GetFencingToken() != 0 {
				token = fmt.Sprint(wait.GetFencingToken())
			}
			rows = append(rows, []string{d.GetId(), wait.GetOwnerId() + mark, wait.GetWaitsFor(), wait.GetLockId(), token, wait.GetBackend()})
		}
	}
	return headed(w, p, rows...)
}
