package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// noticeEvery is how often the notice is brought up to date, and how long
// nothing is said at first.
const noticeEvery = time.Second

// notice tells a person who holds the lock that is waited for: one line, in
// place. Where standard error is no terminal it tells nothing.
type notice struct {
	source source
	lockID string
	out    io.Writer
	screen *os.File
	paint  paint
	stop   context.CancelFunc
	ended  chan struct{}

	mu    sync.Mutex
	place *lockpb.Queued
}

func newNotice(source source, lockID string, errs io.Writer, output string) *notice {
	n := &notice{source: source, lockID: lockID, out: errs}
	screen, ok := errs.(*os.File)
	if !ok || output == "json" || !isTerminal(screen) {
		return n
	}
	n.screen, n.paint, n.ended = screen, painted(screen), make(chan struct{})
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	go n.run(ctx)
	return n
}

// queued takes the position in the queue.
func (n *notice) queued(q *lockpb.Queued) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.place = q
}

// done takes the notice away.
func (n *notice) done() {
	if n.ended != nil {
		n.stop()
		<-n.ended
	}
}

func (n *notice) run(ctx context.Context) {
	defer close(n.ended)
	t := time.NewTicker(noticeEvery)
	defer t.Stop()
	inPlace := os.Getenv("TERM") != "dumb"
	last := ""
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			if inPlace && last != "" {
				_, _ = fmt.Fprint(n.out, "\r\x1b[K")
			}
			return
		}
		line := clip(n.line(ctx), columns(n.screen)-1)
		switch {
		case ctx.Err() != nil || line == last:
			continue
		case inPlace:
			_, _ = fmt.Fprint(n.out, "\r"+n.paint.dim(line)+"\x1b[K")
		case last == "":
			_, _ = fmt.Fprintln(n.out, line) // once: a log of every second helps nobody
		}
		last = line
	}
}

// line is the notice as of now.
func (n *notice) line(ctx context.Context) string {
	n.mu.Lock()
	place := n.place
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, noticeEvery)
	defer cancel()
	l, err := n.source.get(ctx, n.lockID)
	if err != nil {
		return fmt.Sprintf("waiting for %s: %s does not answer", n.lockID, n.source.name())
	}
	return waitingFor(l, place)
}

// waitingFor says who holds a lock.
func waitingFor(l *lockpb.Lock, place *lockpb.Queued) string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "waiting for %s: ", l.GetLockId())
	holders := l.GetHolders()
	if len(holders) == 0 {
		b.WriteString("not held")
	} else {
		h := holders[0]
		_, _ = fmt.Fprintf(&b, "held by %s (token %d, %v left)", h.GetOwnerId(), h.GetFencingToken(), h.GetRemaining().AsDuration().Round(time.Second))
		if len(holders) > 1 {
			_, _ = fmt.Fprintf(&b, " and %d more", len(holders)-1)
		}
	}
	if place != nil {
		_, _ = fmt.Fprintf(&b, ", position %d of %d", place.GetPosition(), max(place.GetQueueLength(), place.GetPosition()))
	}
	return b.String()
}

// clip cuts a line that would wrap.
func clip(line string, width int) string {
	if r := []rune(line); len(r) > width && width > 1 {
		return string(r[:width-1]) + "…"
	}
	return line
}

// localLock is a lock of a backend in this process as the API shows it.
func localLock(l *driver.Lock) *lockpb.Lock {
	m := &lockpb.Lock{LockId: l.LockID, FencingToken: l.Token}
	for i := range l.Holders {
		h := &l.Holders[i]
		m.Holders = append(m.Holders, &lockpb.Holder{OwnerId: h.OwnerID, FencingToken: h.Token, Remaining: durationpb.New(h.Remaining)})
	}
	return m
}
