package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A fleet of three sidecars on two hosts, whose wall clocks are apart: every kind
// of end, a killed sidecar with a torn line, a queue with priorities, readers.
func good() (f *fleet, one, two, three *sidecar) {
	f = newFleet()
	one, two, three = f.sidecar("one", "a", 0), f.sidecar("two", "a", 0), f.sidecar("three", "bb", 800*time.Millisecond)
	a := one.acquired("x", "o1")
	two.queued("x", "o2", 1, 0)
	three.queued("x", "o3", 2, 0)
	three.queued("x", "o4", 3, 9)
	one.released("x", a)
	b := three.acquired("x", "o4", ticket(3, 9)) // a head start
	three.released("x", b)
	b = two.acquired("x", "o2", ticket(1, 0))
	f.after(11 * time.Second)
	three.tells("expired", "x", b)
	b = three.acquired("x", "o3", ticket(2, 0))
	two.tells("force_released", "x", b, func(l *Line) { l.Ended, l.By = true, "uid=0" })
	b = two.acquired("x", "o5")
	three.tells("lost", "x", b-1, func(l *Line) { l.Reason = "forced"; l.ValidUntil = three.at(f.now.Add(5 * time.Second)) })
	two.released("x", b)
	r1, r2 := one.acquired("x", "reader 1", shared), two.acquired("x", "reader 2", shared)
	one.released("x", r1)
	two.released("x", r2)
	three.acquired("x", "o6")
	return f, one, two, three
}

func TestAGoodFleetIsProven(t *testing.T) {
	f, one, two, _ := good()
	one.stop()
	two.stop()
	texts := f.files()
	texts[2] += `{"time":"2026-11-25T12:00:1` // killed
	r := prove(t, texts, Options{})
	wantsNone(t, r)
	if r.Locks != 1 || r.Grants != 8 || r.Handovers != 6 || r.Queued != 3 || r.Overridden != 1 || r.Unproven != 0 || r.Unordered != 0 || r.Foreign != 0 {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(r.Torn, []string{"log3:10"}) || len(r.Open) != 1 || !strings.HasPrefix(r.Open[0], "three") || !slices.Equal(r.Sidecars, []string{"one", "three", "two"}) {
		t.Errorf("torn %v, open %v, sidecars %v", r.Torn, r.Open, r.Sidecars)
	}
	// In any order, in pieces, and in several passes.
	lines := strings.SplitAfter(texts[0], "\n")
	pieces := []string{texts[2], strings.Join(lines[3:], ""), texts[1], strings.Join(lines[:3], ""), strings.Join(lines[2:4], "")}
	wantsNone(t, prove(t, pieces, Options{passes: 7}))
}

// Whichever line is missing, it is named; so is a line that is damaged.
func TestEachMissingLineIsNamed(t *testing.T) {
	f, one, two, three := good()
	one.stop()
	two.stop()
	three.stop()
	texts := f.files()
	for i, text := range texts {
		lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
		for j := range lines {
			if j == 0 || j == len(lines)-1 { // the start and the stop are no events
				continue
			}
			doctored := slices.Clone(texts)
			doctored[i] = strings.Join(slices.Delete(slices.Clone(lines), j, j+1), "")
			r := prove(t, doctored, Options{Partial: true})
			gap := slices.IndexFunc(r.Violations, func(v Violation) bool { return v.Kind == KindGap })
			if gap < 0 || !strings.Contains(r.Violations[gap].Text, fmt.Sprintf("event %d is missing of the sidecar", j)) {
				t.Errorf("file %d without line %d: %v", i+1, j+1, r.Violations)
			}
			damaged := slices.Clone(lines)
			damaged[j] = damaged[j][:len(damaged[j])/2] + "\n"
			doctored[i] = strings.Join(damaged, "")
			r = prove(t, doctored, Options{})
			if !slices.ContainsFunc(r.Violations, func(v Violation) bool {
				return v.Kind == KindDamage && v.File == fmt.Sprintf("log%d", i+1) && v.Line == j+1
			}) {
				t.Errorf("file %d with the line %d damaged: %v", i+1, j+1, r.Violations)
			}
		}
	}
}

// Of a life all of whose events are missing, no other line is there to miss them.
func TestMissingEventsOfALifeWithoutOthers(t *testing.T) {
	f := newFleet()
	s, other := f.sidecar("one", "a", 0), f.sidecar("two", "bb", 0)
	s.acquired("x", "o1")
	s.stop()
	b := other.acquired("x", "o2")
	other.released("x", b)
	other.stop()
	start, stop := s.lines[0]+"\n", s.lines[2]+"\n"
	for _, partial := range []bool{false, true} {
		wants(t, prove(t, []string{start + stop, f.files()[1]}, Options{Partial: partial}), KindGap, "log1:2", "event 1 is missing of the sidecar one")
	}
	wants(t, prove(t, []string{stop}, Options{}), KindGap, "log1:1", "event 1 is missing")
	wantsNone(t, prove(t, []string{stop}, Options{Partial: true}))
}

func TestViolationsAreNamed(t *testing.T) {
	f := func(play func(f *fleet, s, other *sidecar)) []string {
		f := newFleet()
		s, other := f.sidecar("one", "a", 0), f.sidecar("two", "bb", 700*time.Millisecond)
		play(f, s, other)
		s.stop()
		other.stop()
		return f.files()
	}
	for name, c := range map[string]struct {
		texts []string
		kind  Kind
		place string
		words []string
	}{
		"two holders, the first releases later": {f(func(f *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.acquired("x", "o2")
			f.after(trip)
			s.released("x", a)
		}), KindOverlap, "log1:3", []string{"1002", `"o2"`, "while 1001 stood", "log1:4"}},
		"two holders on two hosts": {f(func(f *fleet, s, other *sidecar) {
			a := s.acquired("x", "o1")
			f.after(time.Second)
			other.acquired("x", "o2")
			f.after(3 * time.Second)
			s.released("x", a)
		}), KindOverlap, "log2:2", []string{"while 1001 stood"}},
		"granted inside the valid-until of one that expired": {f(func(f *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			f.after(5 * time.Second)
			s.tells("expired", "x", a)
			s.acquired("x", "o2")
		}), KindOverlap, "log1:4", []string{"rely on it for longer"}},
		"granted while the older one's application was not told": {f(func(f *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			f.after(20 * time.Second)
			s.acquired("x", "o2")
			f.after(time.Second)
			s.tells("lost", "x", a, func(l *Line) { l.Reason = "unknown"; l.ValidUntil = s.at(f.now.Add(time.Second)) })
		}), KindOverlap, "log1:3", []string{"relied on it until then", "log1:4"}},
		"no end": {f(func(f *fleet, s, _ *sidecar) {
			s.acquired("x", "o1")
			f.after(time.Hour)
			s.acquired("x", "o2")
		}), KindOverlap, "log1:3", []string{"no line ends 1001"}},
		"a writer beside a reader": {f(func(f *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1", shared)
			b := s.acquired("x", "o2", shared)
			s.released("x", b)
			s.acquired("x", "o3")
			f.after(trip)
			s.released("x", a)
		}), KindOverlap, "log1:5", []string{"1003", "while 1001 stood"}},
		"a token falls": {f(func(f *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.released("x", a)
			f.token -= 2
			a = s.acquired("x", "o2")
			s.released("x", a)
		}), KindToken, "log1:4", []string{"1000 was granted after 1001"}},
		"a token twice": {f(func(f *fleet, s, other *sidecar) {
			a := s.acquired("x", "o1")
			s.released("x", a)
			f.token--
			other.acquired("x", "o2")
		}), KindToken, "log2:2", []string{"1001", "log1:2"}},
		"a token twice to one owner": {f(func(f *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.released("x", a)
			f.token--
			s.acquired("x", "o1", func(l *Line) { l.Request = "another" })
		}), KindToken, "log1:4", []string{"granted anew"}},
		"overtaken in the queue": {f(func(_ *fleet, s, other *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "o2", 1, 0)
			other.queued("x", "o3", 2, 0)
			s.released("x", a)
			b := other.acquired("x", "o3", ticket(2, 0))
			other.released("x", b)
			s.acquired("x", "o2", ticket(1, 0))
		}), KindOrder, "log2:3", []string{"ticket 2", "ticket 1", "1003"}},
		"overtaken beyond the head start": {f(func(_ *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "o2", 1, 0)
			s.queued("x", "o3", 10, 1)
			s.released("x", a)
			b := s.acquired("x", "o3", ticket(10, 1))
			s.released("x", b)
			s.acquired("x", "o2", ticket(1, 0))
		}), KindOrder, "log1:6", nil},
		"a priority that counts for nothing": {f(func(_ *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "o2", 1, 0)
			s.queued("x", "o3", 5, 1)
			s.released("x", a)
			b := s.acquired("x", "o2", ticket(1, 0))
			s.released("x", b)
			s.acquired("x", "o3", ticket(5, 1))
		}), KindOrder, "log1:6", nil},
		"a newcomer barges": {f(func(_ *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "o2", 1, 0)
			s.released("x", a)
			b := s.acquired("x", "o3")
			s.released("x", b)
			s.acquired("x", "o2", ticket(1, 0))
		}), KindOrder, "log1:5", []string{"had not waited"}},
		"a reader before a writer that waits": {f(func(f *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1", shared)
			s.queued("x", "writer", 1, 0)
			f.after(trip)
			b := s.acquired("x", "o2", shared)
			s.released("x", a)
			s.released("x", b)
			s.acquired("x", "writer", ticket(1, 0))
		}), KindOrder, "log1:4", nil},
		"dropped": {f(func(_ *fleet, s, _ *sidecar) {
			s.seq = 6
			s.tells("missed", "", 0, func(l *Line) { l.Missed = 7 })
			s.acquired("x", "o1")
		}), KindGap, "log1:2", []string{"dropped its events 1 to 7"}},
		"the end is cut off": {func() []string {
			texts := f(func(_ *fleet, s, _ *sidecar) {
				a := s.acquired("x", "o1")
				s.released("x", a)
			})
			lines := strings.SplitAfter(texts[0], "\n")
			texts[0] = lines[0] + lines[1] + lines[3]
			return texts
		}(), KindGap, "log1:2", []string{"event 2 is missing"}},
		"the beginning is cut off": {func() []string {
			texts := f(func(_ *fleet, s, _ *sidecar) {
				a := s.acquired("x", "o1")
				s.released("x", a)
			})
			texts[0] = strings.Join(strings.SplitAfter(texts[0], "\n")[2:], "")
			return texts
		}(), KindGap, "log1:1", []string{"event 1 is missing"}},
	} {
		t.Run(name, func(t *testing.T) { wants(t, prove(t, c.texts, Options{}), c.kind, c.place, c.words...) })
	}
}

// What looks like a violation and is none.
func TestNoFalseAlarm(t *testing.T) {
	for name, play := range map[string]func(f *fleet, s, other *sidecar){
		"answers cross on their way": func(f *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			sent := s.at(f.now)
			s.acquired("x", "o2", func(l *Line) { l.Sent = sent }) // the release was asked for before, and is told after
			none := 0
			s.write(&Line{Type: "released", LockID: "x", OwnerID: "o1", Token: a, HoldCount: &none, Sent: sent})
			s.released("x", a+1)
		},
		"wall clocks that are apart": func(_ *fleet, s, other *sidecar) {
			for range 20 {
				a := s.acquired("x", "o1")
				s.released("x", a)
				a = other.acquired("x", "o2")
				other.released("x", a)
			}
		},
		"a release is repeated long after": func(f *fleet, s, other *sidecar) {
			a := s.acquired("x", "o1")
			b := other.acquired("x", "o2")
			f.after(time.Minute)
			none := 0
			s.write(&Line{Type: "released", LockID: "x", Token: a, HoldCount: &none}) // by whom is not known any more
			other.released("x", b)
		},
		"an expiry is told again": func(f *fleet, s, other *sidecar) {
			a := s.acquired("x", "o1")
			f.after(20 * time.Second)
			b := other.acquired("x", "o2")
			other.tells("expired", "x", a)
			other.released("x", b)
			s.tells("expired", "x", a)
			s.acquired("x", "o3")
		},
		"a place that was lost and taken anew": func(_ *fleet, s, other *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "o2", 1, 0)
			other.queued("x", "o3", 2, 0)
			other.released("x", a)
			b := other.acquired("x", "o3", ticket(2, 0))
			s.queued("x", "o2", 3, 0)
			other.released("x", b)
			s.acquired("x", "o2", ticket(3, 0))
		},
		"an operator moves a place": func(_ *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "o2", 1, 0)
			s.queued("x", "o3", 2, 0)
			s.write(&Line{Type: "reprioritized", LockID: "x", OwnerID: "o3", Request: "r-o3", Ticket: 2, Priority: 9, Backend: "main", Reason: "urgent", By: "ops"})
			s.released("x", a)
			b := s.acquired("x", "o3", ticket(2, 9))
			s.released("x", b)
			s.released("x", s.acquired("x", "o2", ticket(1, 0)))
		},
		"a drain goes first, and the answer that says so is lost": func(_ *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "o2", 1, 9)
			s.write(&Line{Type: "draining", LockID: "x", OwnerID: "drain", Request: "r-drain", Backend: "main", Reason: "repairs", By: "ops"})
			s.queued("x", "drain", 2, 9)
			s.released("x", a)
			b := s.acquired("x", "drain", ticket(2, 9))
			s.released("x", b)
			s.released("x", s.acquired("x", "o2", ticket(1, 9)))
		},
		"an operator ends a wait": func(_ *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "o2", 1, 0)
			s.queued("x", "o3", 2, 0)
			s.write(&Line{Type: "waiter_cancelled", LockID: "x", OwnerID: "o2", Ticket: 1, Backend: "main", Reason: "stuck", By: "ops"})
			s.released("x", a)
			s.released("x", s.acquired("x", "o3", ticket(2, 0)))
		},
		"tickets begin anew with a new record": func(f *fleet, s, _ *sidecar) {
			for i := range 2 {
				o2, o3 := fmt.Sprint("o2 ", i), fmt.Sprint("o3 ", i)
				a := s.acquired("x", "o1")
				s.queued("x", o2, 1, 0)
				s.queued("x", o3, 2, 0)
				s.released("x", a)
				a = s.acquired("x", o2, ticket(1, 0))
				s.released("x", a)
				a = s.acquired("x", o3, ticket(2, 0))
				s.released("x", a)
				f.after(48 * time.Hour)
			}
		},
		"readers at the head": func(_ *fleet, s, _ *sidecar) {
			a := s.acquired("x", "o1")
			s.queued("x", "r1", 1, 0, shared)
			s.queued("x", "r2", 2, 0, shared)
			s.released("x", a)
			a = s.acquired("x", "r2", ticket(2, 0), shared)
			b := s.acquired("x", "r1", ticket(1, 0), shared)
			s.released("x", a)
			s.released("x", b)
		},
		"a hold more and a repeat": func(f *fleet, s, other *sidecar) {
			a := s.acquired("x", "o1")
			again := func(request string, holds int) {
				f.token--
				other.acquired("x", "o1", func(l *Line) { l.Request, l.HoldCount = request, &holds })
			}
			again("r-o1", 1)
			again("second", 2)
			s.released("x", a)
			s.acquired("x", "o2")
		},
		"a grant that met a caller who had gone": func(_ *fleet, s, _ *sidecar) {
			s.acquired("x", "o1")
			s.tells("abandoned", "x", 0, func(l *Line) { l.Request = "r-o1" })
			s.acquired("x", "o2")
		},
		"the same lock's queue on two stores": func(_ *fleet, s, _ *sidecar) {
			s.queued("x", "o1", 5, 0, func(l *Line) { l.Backend = "old" })
			s.queued("x", "o2", 1, 0)
			a := s.acquired("x", "o2", ticket(1, 0))
			s.released("x", a)
			s.acquired("x", "o1", ticket(5, 0), func(l *Line) { l.Backend = "old" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet()
			s, other := f.sidecar("one", "a", 0), f.sidecar("two", "bb", 700*time.Millisecond)
			play(f, s, other)
			s.stop()
			other.stop()
			r := prove(t, f.files(), Options{})
			wantsNone(t, r)
			if r.Unproven != 0 {
				t.Errorf("%d handovers are unproven", r.Unproven)
			}
		})
	}
}

// The end of a lease may be among the lines that a killed sidecar did not write,
// but only if it was killed by then.
func TestAKilledSidecarsTailExcusesWhatMayBeInIt(t *testing.T) {
	f := newFleet()
	s, killed := f.sidecar("one", "a", 0), f.sidecar("two", "bb", 0)
	s.acquired("x", "o1")
	f.after(20 * time.Second)
	killed.tells("expired", "y", 7)
	b := s.acquired("x", "o2")
	s.released("x", b)
	s.stop()
	if r := prove(t, f.files(), Options{}); len(r.Violations) != 0 || r.Unproven != 1 || r.Foreign != 1 {
		t.Errorf("%+v", r)
	}
	f.after(20 * time.Second)
	killed.tells("expired", "y", 8) // it lived on
	wants(t, prove(t, f.files(), Options{}), KindOverlap, "log1:3", "no line ends 1001")
}

// A lease may have been given back before the time of its promise, by a release that
// a killed sidecar told nobody; that it still stood for the store excuses nothing.
func TestAKilledSidecarsTailMayHaveTheRelease(t *testing.T) {
	f := newFleet()
	killed, s := f.sidecar("one", "a", 0), f.sidecar("two", "bb", 0)
	a := killed.acquired("x", "o1")
	f.after(time.Second) // of ten that it may be relied on
	s.released("x", s.acquired("x", "o2"))
	s.stop()
	if r := prove(t, f.files(), Options{}); len(r.Violations) != 0 || r.Unproven != 1 {
		t.Errorf("%+v", r)
	}
	f.after(time.Second)
	killed.tells("adopted", "x", a) // it was not given back
	wants(t, prove(t, f.files(), Options{}), KindOverlap, "log2:2", "was granted to")
}

// A log that went on in another file has not ended where the first one did.
func TestAKilledSidecarsTailInAnotherFile(t *testing.T) {
	f := newFleet()
	killed, s := f.sidecar("one", "a", 0), f.sidecar("two", "bb", 0)
	killed.released("x", killed.acquired("x", "o1"))
	killed.stop()
	killed.write(&Line{Type: TypeStarted, Boot: "a"})
	killed.acquired("x", "o1")
	f.after(20 * time.Second)
	s.released("x", s.acquired("x", "o2"))
	s.stop()
	if r := prove(t, f.files(), Options{}); len(r.Violations) != 0 || r.Unproven != 1 || len(r.Open) != 1 {
		t.Errorf("%+v", r)
	}
	killed.stop()
	wants(t, prove(t, f.files(), Options{}), KindOverlap, "log2:2", "no line ends")
}

// Of logs whose oldest pieces are gone, the rest is proven where that was asked
// for.
func TestPartialLogs(t *testing.T) {
	f := newFleet()
	s := f.sidecar("one", "a", 0)
	for range 10 {
		a := s.acquired("x", "o1")
		s.released("x", a)
	}
	s.stop()
	text := strings.Join(s.lines[7:], "\n") + "\n"
	wants(t, prove(t, []string{text}, Options{}), KindGap, "log1:1", "the log begins here")
	wantsNone(t, prove(t, []string{text}, Options{Partial: true}))
}
