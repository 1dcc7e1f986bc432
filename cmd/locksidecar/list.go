package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// listEvery is the pause between two looks of ls --watch.
const listEvery = time.Second

func newList(g *global) *cobra.Command {
	var req lockpb.ListRequest
	var again bool
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the locks that are held or waited for", Args: exactly(),
		Long: "List the locks that are held or waited for. With --watch the list is shown again every second on a terminal,\n" +
			"and elsewhere whenever it changed (as one line of JSON with -o json), until a signal ends it.",
		Example: "  locksidecar ls --prefix payments/ --contended",
	}
	f := c.Flags()
	f.StringVar(&req.Prefix, "prefix", "", "only ids that start with this")
	f.BoolVar(&req.Contended, "contended", false, "only locks that have waiters")
	f.BoolVar(&again, "watch", false, "show it again when it changes")
	_ = c.RegisterFlagCompletionFunc("prefix", func(c *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return g.lockNames(c.Context(), begun), cobra.ShellCompDirectiveNoFileComp
	})
	return g.orDirect(c, func(c *cobra.Command, cl *client.Client, _ []string) error {
		if again {
			return watchList(c.Context(), cl, &req, c.OutOrStdout(), g.output)
		}
		all, err := list(c.Context(), cl, &req)
		if err != nil {
			return err
		}
		if g.output == "json" {
			err = printJSON(c.OutOrStdout(), all)
		} else {
			err = printLocks(c.OutOrStdout(), painted(c.OutOrStdout()), all)
		}
		if err == nil && len(all.GetFailed()) > 0 {
			err = errors.Join(unread(c.ErrOrStderr(), all), &exitError{code: exitNoDaemon})
		}
		return err
	})
}

// unread names the backends whose locks are missing.
func unread(w io.Writer, all *lockpb.ListResponse) error {
	for _, name := range all.GetFailed() {
		if _, err := fmt.Fprintf(w, "locksidecar: the backend %q could not be read: its locks are missing\n", name); err != nil {
			return err
		}
	}
	return nil
}

// list reads all pages.
func list(ctx context.Context, cl *client.Client, req *lockpb.ListRequest) (*lockpb.ListResponse, error) {
	all := &lockpb.ListResponse{}
	req.PageSize, req.PageToken = 1000, ""
	for {
		page, err := func() (*lockpb.ListResponse, error) {
			ctx, cancel := client.Deadline(ctx)
			defer cancel()
			return cl.List(ctx, req)
		}()
		if err != nil {
			return nil, err
		}
		all.Locks, all.Failed = append(all.Locks, page.GetLocks()...), append(all.Failed, page.GetFailed()...)
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			return all, nil
		}
	}
}

func printLocks(w io.Writer, p paint, all *lockpb.ListResponse) error {
	rows := [][]string{lockHeader}
	for _, l := range all.GetLocks() {
		rows = append(rows, lockRows(l)...)
	}
	return headed(w, p, rows...)
}

// watchList shows the list until ctx ends, which a signal does.
func watchList(ctx context.Context, cl *client.Client, req *lockpb.ListRequest, w io.Writer, output string) error {
	t := time.NewTicker(listEvery)
	defer t.Stop()
	redraw := output == "table" && onScreen(w)
	var last *lockpb.ListResponse
	for {
		all, err := list(ctx, cl, req)
		if err != nil {
			return err
		}
		if redraw || last == nil || !proto.Equal(lasting(all), last) {
			last = lasting(all)
			if err := show(w, all, output, redraw); err != nil {
				return err
			}
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func show(w io.Writer, all *lockpb.ListResponse, output string, redraw bool) error {
	var b strings.Builder
	if output == "json" {
		raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(all)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(&b, string(raw))
	} else {
		if redraw {
			b.WriteString("\x1b[H\x1b[2J")
		}
		if err := errors.Join(printLocks(&b, painted(w), all), unread(&b, all)); err != nil {
			return err
		}
		if !redraw {
			b.WriteString("\n")
		}
	}
	_, err := io.WriteString(w, b.String()) // at once, so that it does not flicker
	return err
}

// lasting is the list without what changes by the clock alone.
func lasting(all *lockpb.ListResponse) *lockpb.ListResponse {
	kept := proto.CloneOf(all)
	for _, l := range kept.GetLocks() {
		for _, h := range l.GetHolders() {
			h.Remaining, h.ExpiresAt = nil, nil
		}
	}
	return kept
}
