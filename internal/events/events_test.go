package events

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func subscribe(t testing.TB, l *Log, prefix, after string) *Subscription {
	t.Helper()
	s, err := l.Subscribe(prefix, after)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rest returns what can be read without waiting.
func rest(t testing.TB, s *Subscription) (all []*lockpb.Event) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // of the bubble's clock
		found, err := s.Next(ctx)
		cancel()
		if err != nil {
			return all
		}
		all = append(all, found...)
	}
}

func acquired(i int) backend.Event {
	return backend.Event{Kind: backend.Acquired, LockID: fmt.Sprint("lock/", i), OwnerID: "owner", RequestID: fmt.Sprint("request ", i), Token: int64(i), HoldCount: 1}
}

func TestReadsOnAfterACursorWithoutLossOrRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(0)
		cursor := subscribe(t, l, "", "").Cursor()
		next := 1
		for round := range 20 {
			for i := range 17 * round {
				l.Happened(acquired(17*round*(round-1)/2 + i + 1))
			}
			for _, e := range rest(t, subscribe(t, l, "", cursor)) {
				if e.GetType() != TypeAcquired || e.GetFencingToken() != int64(next) {
					t.Fatalf("read %v, want the token %d", e, next)
				}
				next++
				cursor = e.GetCursor()
			}
		}
		if next != 17*20*19/2+1 {
			t.Errorf("read %d events", next-1)
		}
		if got := rest(t, subscribe(t, l, "", "")); len(got) != 0 {
			t.Errorf("from now on: %v", got)
		}
		if got := rest(t, subscribe(t, l, "", Oldest)); len(got) != next-1 || got[0].GetFencingToken() != 1 {
			t.Errorf("from the oldest: %d events", len(got))
		}
	})
}

func TestPrefixSelects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(0)
		s := subscribe(t, l, "lock/3", "")
		for i := range 1000 {
			l.Happened(acquired(i))
		}
		got := rest(t, s)
		if len(got) != 111 {
			t.Errorf("%d events, want 111", len(got))
		}
		for _, e := range got {
			if !strings.HasPrefix(e.GetLockId(), "lock/3") {
				t.Errorf("read %v", e)
			}
		}
		if _, err := l.Subscribe(strings.Repeat("x", 256), ""); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("a long prefix: %v", err)
		}
	})
}

// A reader that falls behind the ring is told how much it missed, and goes on
// with the oldest event that is kept.
func TestSlowReaderIsToldWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(100)
		var missed uint64
		l.OnMissed(func(n uint64) { missed += n })
		slow := subscribe(t, l, "", "")
		for i := range 250 {
			l.Happened(acquired(i + 1))
		}
		got := rest(t, slow)
		if len(got) != 101 || got[0].GetType() != TypeMissed || got[0].GetMissed() != 150 || got[1].GetFencingToken() != 151 || got[100].GetFencingToken() != 250 {
			t.Fatalf("read %d events, the first %v", len(got), got[0])
		}
		// The cursor of what was missed resumes with what followed it.
		if again := rest(t, subscribe(t, l, "", got[0].GetCursor())); len(again) != 100 || again[0].GetId() != got[1].GetId() {
			t.Errorf("resumed with %d events, the first %v", len(again), again[0])
		}
		if oldest := rest(t, subscribe(t, l, "", Oldest)); len(oldest) != 101 || oldest[0].GetMissed() != 150 {
			t.Errorf("from the oldest: %d events", len(oldest))
		}
		if missed != 150 {
			t.Errorf("%d events were counted as missed, want the 150 of the slow reader: what was gone before the other came it has not lost", missed)
		}
		// From then on it is a reader like others.
		late := subscribe(t, l, "", Oldest)
		if got := rest(t, late); len(got) != 101 {
			t.Fatalf("read %d events", len(got))
		}
		for i := range 130 {
			l.Happened(acquired(1000 + i))
		}
		if got := rest(t, late); got[0].GetMissed() != 30 || missed != 150+30 {
			t.Errorf("then it missed %d, and %d were counted", got[0].GetMissed(), missed)
		}
	})
}

// What a sink misses it counts itself.
func TestWhatASinkMissesIsNotAWatchers(t *testing.T) {
	l := New(100)
	l.OnMissed(func(n uint64) { t.Errorf("%d events were counted as missed by a watcher", n) })
	sink := subscribe(t, l, "", "")
	for i := range 250 {
		l.Happened(acquired(i + 1))
	}
	if got, err := sink.Records(t.Context()); err != nil || len(got) != 1 || got[0].Missed != 150 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCursorOfAnotherLifeIsToldAsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := New(0), New(0)
		before.Happened(acquired(1))
		cursor := rest(t, subscribe(t, before, "", Oldest))[0].GetCursor()
		after.Happened(acquired(2))
		got := rest(t, subscribe(t, after, "", cursor))
		if len(got) != 2 || got[0].GetType() != TypeMissed || got[0].GetMissed() != 0 || got[1].GetFencingToken() != 2 {
			t.Fatalf("read %v", got)
		}
		if again := rest(t, subscribe(t, after, "", got[1].GetCursor())); len(again) != 0 {
			t.Errorf("read again %v", again)
		}
	})
}

func TestCursorsThatNobodyMadeAreRefused(t *testing.T) {
	l := New(0)
	l.Happened(acquired(1))
	for _, after := range []string{"x", "-1", "1", l.life, l.life + "-", l.life + "-2", l.life + "-99999999999999999999", l.life + "--1", strings.ToUpper(l.life) + "g-1", "0123456789abcde-1"} {
		var invalid *backend.InvalidError
		if _, err := l.Subscribe("", after); !errors.As(err, &invalid) || invalid.Field != "after" {
			t.Errorf("after %q: %v", after, err)
		}
	}
	if _, err := l.Subscribe("", l.life+"-0"); err != nil {
		t.Errorf("before the first event: %v", err)
	}
}

// The same fact has the same id in every log; different facts have different
// ones; none tells a request id.
func TestIDsNameFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "5ecret-5ecret"
		lost := renew.LostObservation{LockID: "a", OwnerID: "o", Token: 7, Attach: 1, Reason: renew.ReasonExpired}
		reattached, hold := lost, lost
		reattached.Attach = 2
		hold.RequestID, hold.Reason = secret, renew.ReasonMaxHold
		facts := []func(*Log){
			func(l *Log) { l.Lost(lost) }, func(l *Log) { l.Lost(reattached) }, func(l *Log) { l.Lost(hold) },
		}
		for _, e := range []backend.Event{
			{Kind: backend.Acquired, LockID: "a", Token: 7, RequestID: secret}, {Kind: backend.Acquired, LockID: "a", Token: 7, RequestID: secret + "2"},
			{Kind: backend.Acquired, LockID: "a", Token: 8, RequestID: secret}, {Kind: backend.Acquired, LockID: "b", Token: 7, RequestID: secret},
			{Kind: backend.Queued, LockID: "a", RequestID: secret}, {Kind: backend.Abandoned, LockID: "a", RequestID: secret},
			{Kind: backend.Abandoned, LockID: "a", RequestID: secret, Ticket: 1}, {Kind: backend.Abandoned, LockID: "a", RequestID: secret, Ticket: 2},
			{Kind: backend.Draining, LockID: "a", RequestID: secret},
			{Kind: backend.Released, LockID: "a", Token: 7, RequestID: secret}, {Kind: backend.Released, LockID: "a", Token: 7, RequestID: secret, HoldCount: 1},
			{Kind: backend.Released, LockID: "a", Token: 7, RequestID: secret + "2", HoldCount: 1},
			{Kind: backend.Ended, LockID: "a", Token: 7, Cause: driver.CauseExpired}, {Kind: backend.Ended, LockID: "a", Token: 7, Cause: driver.CauseForced},
			{Kind: backend.Revoked, LockID: "a", Token: 7},
			{Kind: backend.Cancelled, LockID: "a", RequestID: secret, Ticket: 3, By: "uid 1", Reason: "why"},
		} {
			facts = append(facts, func(l *Log) { l.Happened(e) })
		}
		one, two := New(0), New(0)
		for _, f := range facts {
			f(one)
		}
		for i := range facts {
			facts[len(facts)-1-i](two)
		}
		first, second := rest(t, subscribe(t, one, "", Oldest)), rest(t, subscribe(t, two, "", Oldest))
		seen := map[string]bool{}
		for i, e := range first {
			if seen[e.GetId()] {
				t.Errorf("%s names two facts", e.GetId())
			}
			seen[e.GetId()] = true
			if other := second[len(second)-1-i]; other.GetId() != e.GetId() {
				t.Errorf("one fact has the ids %s and %s", e.GetId(), other.GetId())
			}
			if strings.Contains(e.String(), secret) {
				t.Errorf("%v tells a request id", e)
			}
		}
	})
}

// A deadlock is told to whoever watches one of its locks, under the one id that
// whoever finds it gives it.
func TestDeadlocksAreOfAllTheirLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(0)
		d := &lockpb.Deadlock{Id: "0123", Victim: 1, Waits: []*lockpb.Wait{
			{LockId: "x/1", OwnerId: "a", WaitsFor: "b", FencingToken: 1}, {LockId: "y/1", OwnerId: "b", WaitsFor: "a", FencingToken: 2},
		}}
		l.Deadlock(d)
		for prefix, want := range map[string]int{"": 1, "x/": 1, "y/": 1, "z/": 0} {
			got := rest(t, subscribe(t, l, prefix, Oldest))
			if len(got) != want {
				t.Fatalf("%q: %v", prefix, got)
			}
			if want == 1 && (got[0].GetId() != "deadlock-0123" || got[0].GetType() != TypeDeadlock || got[0].GetLockId() != "y/1" ||
				got[0].GetOwnerId() != "b" || len(got[0].GetDeadlock().GetWaits()) != 2) {
				t.Errorf("told as %v", got[0])
			}
		}
	})
}

// Sidecars that find one deadlock tell it alike to sinks, with the backend that the
// source of a CloudEvent names.
func TestDeadlocksAreOfTheVictimsBackend(t *testing.T) {
	l := New(4)
	l.Deadlock(&lockpb.Deadlock{Id: "0123", Victim: 1, Waits: []*lockpb.Wait{
		{Backend: "main", LockId: "x", OwnerId: "a", Ticket: 3, WaitsFor: "b", FencingToken: 7}, {Backend: "jobs", LockId: "y", OwnerId: "b", Ticket: 4, WaitsFor: "a", FencingToken: 8},
	}})
	records, err := subscribe(t, l, "", Oldest).Records(t.Context())
	if err != nil || len(records) != 1 || records[0].Backend != "jobs" || records[0].LockID != "y" {
		t.Fatalf("%+v %v", records, err)
	}
	// The token is of the one that it waits for.
	if r := records[0]; r.Token != 0 || r.Ticket != 4 || r.OwnerID != "b" {
		t.Errorf("%+v", r)
	}
	want := &Deadlock{ID: "0123", Victim: 1, Waits: []Wait{
		{Backend: "main", LockID: "x", OwnerID: "a", Ticket: 3, WaitsFor: "b", Token: 7}, {Backend: "jobs", LockID: "y", OwnerID: "b", Ticket: 4, WaitsFor: "a", Token: 8},
	}}
	if !reflect.DeepEqual(records[0].Deadlock, want) {
		t.Errorf("%+v", records[0].Deadlock)
	}
}

// Readers of every pace beside writers: each reader's numbers rise, and what it
// read and what it was told to have missed add up.
func TestReadersBesideWriters(t *testing.T) {
	const writers, each = 4, 5000
	l := New(512)
	ctx, cancel := context.WithCancel(t.Context())
	var reading, writing sync.WaitGroup
	for range 4 {
		s := subscribe(t, l, "", "")
		reading.Go(func() {
			total, last := 0, uint64(0)
			for total < writers*each {
				found, err := s.Next(ctx)
				if err != nil {
					t.Errorf("%d of %d events: %v", total, writers*each, err)
					return
				}
				for _, e := range found {
					_, n, ok := parseCursor(e.GetCursor())
					if !ok || n <= last && e.GetType() != TypeMissed {
						t.Errorf("cursor %s after %d", e.GetCursor(), last)
					}
					last = n
					total++
					if e.GetType() == TypeMissed {
						total += int(e.GetMissed()) - 1
					}
				}
			}
			if total != writers*each {
				t.Errorf("%d events, want %d", total, writers*each)
			}
		})
	}
	for range writers {
		writing.Go(func() {
			for i := range each {
				l.Happened(acquired(i))
			}
		})
	}
	writing.Wait()
	timer := time.AfterFunc(time.Minute, cancel)
	reading.Wait()
	timer.Stop()
	cancel()
}

func BenchmarkAppend(b *testing.B) {
	for _, readers := range []int{0, 1} {
		b.Run(fmt.Sprintf("%d subscribers", readers), func(b *testing.B) {
			l := New(0)
			ctx, cancel := context.WithCancel(b.Context())
			var reading sync.WaitGroup
			for range readers {
				s := subscribe(b, l, "", "")
				reading.Go(func() {
					for {
						if _, err := s.Next(ctx); err != nil {
							return
						}
					}
				})
			}
			e := acquired(1)
			b.ReportAllocs()
			for b.Loop() {
				l.Happened(e)
			}
			cancel()
			reading.Wait()
		})
	}
}
