package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
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

// headed is a table whose first row is its header.
func headed(w io.Writer, p paint, rows ...[]string) error {
	var b strings.Builder
	if err := table(&b, rows...); err != nil {
		return err
	}
	header, rest, _ := strings.Cut(b.String(), "\n")
	_, err := io.WriteString(w, p.bold(header)+"\n"+rest)
	return err
}

// paint makes text stand out on a terminal; false leaves it as it is.
type paint bool

// painted is for a writer: true for a terminal that shows more than text,
// unless NO_COLOR is set.
func painted(w io.Writer) paint { return paint(onScreen(w) && os.Getenv("NO_COLOR") == "") }

// onScreen says that w is a terminal that knows control sequences.
func onScreen(w io.Writer) bool {
	if c, ok := w.(*checked); ok {
		w = c.w
	}
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && isTerminal(f)
}

func (p paint) bold(s string) string { return p.wrap("\x1b[1m", s) }
func (p paint) dim(s string) string  { return p.wrap("\x1b[2m", s) }

func (p paint) wrap(style, s string) string {
	if !p || s == "" {
		return s
	}
	return style + s + "\x1b[0m"
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
			l.GetLockId(), holder, fmt.Sprint(h.GetFencingToken()), mode(h.GetShared()), heldFor(h), short(h.GetRemaining().AsDuration()), waiters,
		})
	}
	if len(rows) == 0 {
		rows = append(rows, []string{l.GetLockId(), "-", fmt.Sprint(l.GetFencingToken()), "-", "-", "-", waiters})
	}
	return rows
}

var lockHeader = []string{"LOCK", "HOLDER", "TOKEN", "MODE", "HELD", "REMAINING", "WAITERS"}

// heldFor is how long a lease has stood.
func heldFor(h *lockpb.Holder) string {
	if h.GetHeldSince() == nil {
		return "-"
	}
	return short(max(time.Since(h.GetHeldSince().AsTime()), 0))
}

// isTerminal says whether f is one.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// columns is the width of a terminal, 80 if it does not say.
func columns(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width == 0 {
		return 80
	}
	return width
}
