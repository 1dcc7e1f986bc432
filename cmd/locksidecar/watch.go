package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func newWatch(g *global) *cobra.Command {
	var req lockpb.WatchRequest
	c := &cobra.Command{
		Use: "watch", Short: "Show what happens to locks, as it happens", Args: exactly(),
		Long: "Show what this sidecar does for its applications and what it finds expired, until interrupted.\n" +
			"When the sidecar goes away, the command waits for it and reads on where it was; a line \"missed\" says that\n" +
			"events are missing.",
		Example: "  locksidecar watch --prefix orders/ -o json",
	}
	c.Flags().StringVar(&req.Prefix, "prefix", "", "only locks whose ids start with this")
	c.Flags().StringVar(&req.After, "after", "", "the cursor to read on after, or \"oldest\" (default: from now on)")
	return g.connected(c, func(c *cobra.Command, cl *client.Client, _ []string) error {
		w := watcher{req: &req, endpoint: cl.Endpoint(), out: c.OutOrStdout(), errs: c.ErrOrStderr(), json: g.output == "json"}
		return w.run(c.Context(), cl)
	})
}

// watcher prints events over as many streams as it takes.
type watcher struct {
	req       *lockpb.WatchRequest
	endpoint  string
	out, errs io.Writer
	json      bool
	// connected: a sidecar has answered; from then on it is waited for.
	connected bool
}

// The pauses between two attempts to reach the sidecar again.
const (
	watchPause        = 100 * time.Millisecond
	longestWatchPause = 2 * time.Second
)

// run follows streams until a signal ends ctx, or an error says that trying again will not help.
func (w *watcher) run(ctx context.Context, cl *client.Client) error {
	pause := watchPause
	var again *client.Client
	defer func() {
		if again != nil {
			_ = again.Close()
		}
	}()
	for {
		established, err := w.follow(ctx, cl)
		switch {
		case ctx.Err() != nil:
			return interrupted(ctx)
		case !w.connected || !passes(err):
			return err
		case established:
			pause = watchPause
			_, _ = fmt.Fprintf(w.errs, "locksidecar: the stream ended (%s), waiting for the sidecar\n", client.Message(err))
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return interrupted(ctx)
		}
		pause = min(2*pause, longestWatchPause)
		// A new client, because gRPC's own pauses grow to minutes.
		if again != nil {
			_ = again.Close()
		}
		if again, err = client.New(w.endpoint); err != nil {
			return err
		}
		cl = again
	}
}

// passes says whether an error may be over with the next attempt.
func passes(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Internal, codes.Unknown, codes.Canceled, codes.DeadlineExceeded, codes.ResourceExhausted:
		return true
	}
	return false
}

// follow prints the events of one stream.
func (w *watcher) follow(ctx context.Context, cl *client.Client) (established bool, err error) {
	stream, err := cl.Watch(ctx, w.req)
	if err != nil {
		return false, err
	}
	header, err := stream.Header()
	if err != nil {
		return false, err
	}
	cursor := header.Get("locksidecar-cursor")
	if len(cursor) == 1 { // else the stream was refused, which Recv tells
		established = true
		if w.req.After == "" {
			w.req.After = cursor[0]
		}
		if !w.connected && !w.json {
			if err := w.line("TIME", "TYPE", "TOKEN", "LOCK", "OWNER", ""); err != nil {
				return true, &exitError{exitInternal, err}
			}
		}
		w.connected = true
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return established, err
		}
		if err := w.print(e); err != nil {
			return established, &exitError{exitInternal, err}
		}
		w.req.After = e.GetCursor()
	}
}

// watchLine has the columns of an event: a stream cannot be lined up as a whole.
const watchLine = "%-24s  %-14s  %-16s  %-20s  %-22s  %s"

func (w *watcher) print(e *lockpb.Event) error {
	if w.json {
		raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(e)
		if err != nil {
			return err
		}
		var line bytes.Buffer
		if err := json.Compact(&line, raw); err != nil {
			return err
		}
		line.WriteByte('\n')
		_, err = w.out.Write(line.Bytes())
		return err
	}
	token := ""
	if e.GetFencingToken() != 0 {
		token = fmt.Sprint(e.GetFencingToken())
	}
	return w.line(e.GetTime().AsTime().Format("2006-01-02T15:04:05.000Z"), e.GetType(), token, e.GetLockId(), e.GetOwnerId(), detail(e))
}

func (w *watcher) line(columns ...any) error {
	_, err := fmt.Fprintln(w.out, strings.TrimRight(fmt.Sprintf(watchLine, columns...), " "))
	return err
}

// cycle is a deadlock in one line.
func cycle(d *lockpb.Deadlock) string {
	var b strings.Builder
	for _, w := range d.GetWaits() {
		b.WriteString(w.GetOwnerId() + " -[" + w.GetLockId() + "]-> ")
	}
	return b.String() + d.GetWaits()[0].GetOwnerId()
}

// detail is what an event says beyond the columns.
func detail(e *lockpb.Event) string {
	var parts []string
	switch e.GetType() {
	case "missed":
		if e.GetMissed() == 0 {
			return "events are missing: read the state by ls"
		}
		return fmt.Sprintf("%d events are missing: read the state by ls", e.GetMissed())
	case "deadlock":
		return cycle(e.GetDeadlock())
	case "waiter_cancelled":
		parts = append(parts, fmt.Sprintf("ticket %d", e.GetTicket()))
	case "reprioritized":
		if e.GetPriority() == driver.FirstPriority {
			parts = append(parts, fmt.Sprintf("ticket %d, before all others", e.GetTicket()))
			break
		}
		parts = append(parts, fmt.Sprintf("ticket %d, priority %d, position %d", e.GetTicket(), e.GetPriority(), e.GetPosition()))
	case "queued":
		parts = append(parts, fmt.Sprintf("position %d of %d", e.GetPosition(), e.GetQueueLength()))
	case "released":
		if e.GetHoldCount() > 0 {
			parts = append(parts, fmt.Sprintf("%d holds left", e.GetHoldCount()))
		}
	case "force_released":
		if e.GetEnded() {
			parts = append(parts, "ended")
		} else {
			parts = append(parts, "revoked")
		}
	}
	if e.GetReason() != "" {
		parts = append(parts, e.GetReason())
	}
	if e.GetOperator() != "" {
		parts = append(parts, "by "+e.GetOperator())
	}
	if e.GetShared() {
		parts = append(parts, "shared")
	}
	return strings.Join(parts, ", ")
}
