package events

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/locksidecar/locksidecar/backend"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Oldest is the cursor from which every event follows that is kept.
const Oldest = "oldest"

// batchSize is how many events are copied at a time.
const batchSize = 128

// Subscription reads a Log. It has no goroutine and nothing to close, and is
// used by one goroutine.
type Subscription struct {
	l      *Log
	prefix string
	// next is the number of the event to read next.
	next uint64
	// foreign is a cursor of another life, until that was told.
	foreign string
	// begins: it is to begin with the oldest event, and has read nothing yet.
	// What was overwritten before is no loss of its own.
	begins bool
	batch  []entry
}

// Subscribe reads the events of the locks with the prefix that follow the
// cursor: one of an event, Oldest, or empty for those that come from now on. A
// cursor that this log did not make and could not have made is a
// backend.InvalidError.
func (l *Log) Subscribe(prefix, after string) (*Subscription, error) {
	if len(prefix) > backend.MaxLockID {
		return nil, &backend.InvalidError{
			Field: "prefix", Reason: fmt.Sprintf("has %d bytes", len(prefix)), Limits: fmt.Sprintf("at most %d bytes", backend.MaxLockID),
		}
	}
	s := &Subscription{l: l, prefix: prefix}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch after {
	case "":
		s.next = l.next
		return s, nil
	case Oldest:
		s.next, s.begins = 1, true
		return s, nil
	}
	life, number, ok := parseCursor(after)
	switch {
	case ok && life != l.life:
		s.next, s.foreign = l.oldest(), after
	case ok && number < l.next:
		s.next = number + 1
	default:
		return nil, &backend.InvalidError{Field: "after", Reason: "is no cursor of this sidecar", Limits: "the cursor of an event, " + Oldest + ", or empty"}
	}
	return s, nil
}

// cursor is that of the event with the number.
func (l *Log) cursor(number uint64) string { return l.life + "-" + strconv.FormatUint(number, 10) }

func parseCursor(cursor string) (life string, number uint64, ok bool) {
	life, digits, _ := strings.Cut(cursor, "-")
	number, err := strconv.ParseUint(digits, 10, 63)
	return life, number, err == nil && len(life) == 16 && strings.Trim(life, "0123456789abcdef") == ""
}

// Cursor is the position of the subscription: what it has yet to read follows.
func (s *Subscription) Cursor() string {
	if s.foreign != "" {
		return s.foreign
	}
	return s.l.cursor(s.next - 1)
}

// Next waits for events and returns those that there are, some at a time, or
// ctx's error. If events were missed, that comes first, as one event.
func (s *Subscription) Next(ctx context.Context) ([]*lockpb.Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		begins := s.begins
		from, missed, wake := s.read()
		switch {
		case missed != nil:
			if n := missed.GetMissed(); n > 0 && !begins && s.l.missed != nil {
				s.l.missed(n)
			}
			return []*lockpb.Event{missed}, nil
		case wake != nil:
			select {
			case <-wake:
			case <-ctx.Done():
			}
			continue
		}
		if found := s.messages(from); len(found) > 0 {
			return found, nil
		}
	}
}

// read copies a batch, whose first event has the number from; or it tells what
// was missed, or returns what is closed when there is something to read.
func (s *Subscription) read() (from uint64, missed *lockpb.Event, wake <-chan struct{}) {
	l := s.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if oldest := l.oldest(); s.foreign != "" || s.next < oldest {
		return 0, s.miss(oldest), nil
	}
	s.begins = false
	if s.next == l.next {
		if l.wake == nil {
			l.wake = make(chan struct{})
		}
		return 0, nil, l.wake
	}
	from = s.next
	s.batch = s.batch[:0]
	for ; s.next < l.next && len(s.batch) < batchSize; s.next++ {
		s.batch = append(s.batch, l.ring[(s.next-1)%l.size])
	}
	return from, nil, nil
}

// miss tells that the events before the oldest one are missing.
func (s *Subscription) miss(oldest uint64) *lockpb.Event {
	after := s.Cursor()
	m := &lockpb.Event{Type: TypeMissed, Cursor: s.l.cursor(oldest - 1), Time: timestamppb.New(time.Now())}
	if s.foreign == "" {
		m.Missed = oldest - s.next
	}
	m.Id = TypeMissed + "-" + after + "-" + m.Cursor
	s.next, s.foreign, s.begins = oldest, "", false
	return m
}

// isAbout says whether a lock of the event has the prefix.
func (e *entry) isAbout(prefix string) bool {
	return strings.HasPrefix(e.lockID, prefix) || slices.ContainsFunc(e.deadlock.GetWaits(), func(w *lockpb.Wait) bool {
		return strings.HasPrefix(w.GetLockId(), prefix)
	})
}

// messages are those of the batch that the subscription is for.
func (s *Subscription) messages(from uint64) (found []*lockpb.Event) {
	for i := range s.batch {
		e := &s.batch[i]
		if e.isAbout(s.prefix) {
			found = append(found, e.message(s.l.cursor(from+uint64(i))))
		}
	}
	clear(s.batch)
	return found
}
