package auditlog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/audit"
	"github.com/locksidecar/locksidecar/internal/events"
)

// The defaults of Options.
const (
	DefaultMaxBytes = 100 << 20
	DefaultKeep     = 10
)

// Options configure a Sink.
type Options struct {
	// Path is the file's. It belongs to this process alone.
	Path string
	// MaxBytes is the size beyond which the file is rotated; 0 means
	// DefaultMaxBytes.
	MaxBytes int64
	// Keep is how many older files are kept, as Path.1 (the youngest) and so on; 0
	// means DefaultKeep.
	Keep int
	// Sidecar and Version stand in the lines.
	Sidecar, Version string
	Counter          events.Counter
	Logger           *slog.Logger
}

// Sink writes the log.
type Sink struct {
	o    Options
	file *file
	buf  bytes.Buffer
	// seq is the number of the latest event that has its line.
	seq uint64
}

// Open opens the file, and makes it if it is not there.
func Open(o Options) (*Sink, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Keep == 0 {
		o.Keep = DefaultKeep
	}
	o.Logger = driver.Logger(o.Logger)
	f, err := openFile(o.Path, o.MaxBytes, o.Keep)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w: %w", driver.ErrInvalid, err)
	}
	f.wishes.failed = func(err error) {
		o.Logger.Error("a change of the audit log's file failed, what was open stays so", driver.LogError, err)
	}
	return &Sink{o: o, file: f}, nil
}

// Close closes a sink that was not run. One that was closes itself.
func (s *Sink) Close() error { return s.file.close() }

// Limit changes MaxBytes and Keep, soon; 0 means the defaults. Pieces beyond Keep
// are removed.
func (s *Sink) Limit(maxBytes int64, keep int) {
	if maxBytes == 0 {
		maxBytes = DefaultMaxBytes
	}
	if keep == 0 {
		keep = DefaultKeep
	}
	s.file.wish(func(w *wishes) { w.limits, w.maxBytes, w.keep = true, maxBytes, keep })
}

// Reopen goes on in a new file, soon, if somebody has moved the old one away.
func (s *Sink) Reopen() { s.file.wish(func(w *wishes) { w.reopen = true }) }

// Run writes the events after the number until ctx ends; then what there is by
// then, and that nothing follows, unless that takes longer than last. It closes
// the file.
func (s *Sink) Run(ctx, last context.Context, l *events.Log, after uint64) {
	defer func() { _ = s.file.close() }()
	s.seq = after
	sub, err := l.Subscribe("", l.Run()+"-"+strconv.FormatUint(after, 10))
	if err != nil {
		s.o.Logger.Error("the audit log cannot begin", driver.LogError, err)
		return
	}
	now := driver.BootClock.Now()
	if !s.write(last, &audit.Line{
		Type: audit.TypeStarted, Time: time.Now().UTC(), At: int64(now), Run: l.Run(), Seq: after, Boot: boot(), Version: s.o.Version,
	}) {
		s.o.Counter.Dropped(l.Last() - after)
		return
	}
	for {
		ended := ctx.Err() != nil
		if ended && s.seq >= l.Last() {
			break
		}
		records, err := sub.Records(ctx)
		if err != nil {
			continue // ctx has ended
		}
		if !s.take(last, records) {
			s.o.Counter.Dropped(l.Last() - s.seq)
			return
		}
	}
	s.write(last, &audit.Line{Type: audit.TypeStopped, Time: time.Now().UTC(), At: int64(driver.BootClock.Now()), Run: l.Run(), Seq: s.seq})
}

// take writes records. It is false if last ended before.
func (s *Sink) take(last context.Context, records []events.Record) bool {
	lines, written, dropped := make([]*audit.Line, 0, len(records)), 0, uint64(0)
	for i := range records {
		r := &records[i]
		if r.Type == events.TypeMissed {
			dropped += r.Missed
		} else {
			written++
		}
		lines = append(lines, lineOf(r))
	}
	if dropped > 0 {
		s.o.Counter.Dropped(dropped)
		s.o.Logger.Error("the audit log has a gap: it could not be written in time", driver.LogCount, dropped)
	}
	if !s.write(last, lines...) {
		return false
	}
	s.seq = records[len(records)-1].Seq
	s.o.Counter.Delivered(uint64(written))
	return true
}

// write writes lines, again and again until it is done or last ends.
func (s *Sink) write(last context.Context, lines ...*audit.Line) bool {
	s.buf.Reset()
	e := json.NewEncoder(&s.buf)
	e.SetEscapeHTML(false)
	for _, l := range lines {
		l.Sidecar = s.o.Sidecar
		if err := e.Encode(l); err != nil {
			s.o.Logger.Error("an event has no line in the audit log", driver.LogError, err) // it is made of texts and numbers
		}
	}
	failed := false
	b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(events.RetryEvery), backoff.WithMaxElapsedTime(0))
	err := backoff.Retry(func() error {
		err := s.file.write(s.buf.Bytes())
		if err != nil {
			s.o.Counter.Retried(1)
			if !failed {
				s.o.Logger.Error("the audit log cannot be written, it is tried again", driver.LogError, err)
			}
			failed = true
		}
		return err
	}, backoff.WithContext(b, last))
	if err == nil && failed {
		s.o.Logger.Info("the audit log is written again")
	}
	return err == nil
}

// lineOf is the line of an event.
func lineOf(r *events.Record) *audit.Line {
	l := &audit.Line{
		Time: r.Time, Type: r.Type, Run: r.Run, Seq: r.Seq, At: int64(r.At), Sent: int64(r.Sent), ID: r.ID, Backend: r.Backend, LockID: r.LockID,
		OwnerID: r.OwnerID, Token: r.Token, Shared: r.Shared, Request: r.Request, Ticket: r.Ticket, Priority: r.Priority, Position: r.Position,
		QueueLength: r.QueueLength, ValidUntil: int64(r.ValidUntil), Attach: r.Attach, Reason: r.Reason, By: r.By, Ended: r.Ended, Missed: r.Missed, Deadlock: r.Deadlock,
	}
	switch r.Type {
	case events.TypeAcquired, events.TypeReleased, events.TypeAdopted:
		l.HoldCount = &r.HoldCount
	}
	if r.TTL > 0 {
		l.TTL = r.TTL.String()
	}
	if !r.ExpiresAt.IsZero() {
		l.ExpiresAt = &r.ExpiresAt
	}
	return l
}
