package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// printJSON prints the answer as the HTTP API gives it.
func printJSON(w io.Writer, m proto.Message) error {
	raw, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true, Multiline: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(raw))
	return err
}

// table prints rows in columns.
func table(w io.Writer, rows ...[]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		if _, err := fmt.Fprintln(t, strings.Join(r, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

func printLease(w io.Writer, l *lockpb.Lease) error {
	return table(w,
		[]string{"lock", l.GetLockId()},
		[]string{"lease_id", l.GetLeaseId()},
		[]string{"fencing_token", fmt.Sprint(l.GetFencingToken())},
		[]string{"owner", l.GetOwnerId()},
		[]string{"request_id", l.GetRequestId()},
		[]string{"mode", mode(l.GetShared())},
		[]string{"holds", fmt.Sprint(l.GetHoldCount())},
		[]string{"ttl", l.GetTtl().AsDuration().String()},
		[]string{"valid_for", short(l.GetValidFor().AsDuration())},
	)
}

func mode(shared bool) string {
	if shared {
		return "shared"
	}
	return "exclusive"
}

func short(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }

// lockRows are one row a holder, or one for a lock that is only waited for.
func lockRows(l *lockpb.Lock) (rows [][]string) {
	waiters := fmt.Sprint(len(l.GetWaiters()))
	for _, h := range l.GetHolders() {
		holder := h.GetOwnerId()
		if h.GetRevoked() {
			holder += " (revoked)"
		}
		rows = append(rows, []string{
			l.GetLockId(), holder, fmt.Sprint(h.GetFencingToken()), mode(h.GetShared()), short(h.GetRemaining().AsDuration()), waiters,
		})
	}
	if len(rows) == 0 {
		rows = append(rows, []string{l.GetLockId(), "-", fmt.Sprint(l.GetFencingToken()), "-", "-", waiters})
	}
	return rows
}

var lockHeader = []string{"LOCK", "HOLDER", "TOKEN", "MODE", "REMAINING", "WAITERS"}
