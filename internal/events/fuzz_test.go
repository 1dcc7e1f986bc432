package events

import "testing"

// Whatever a client sends as a cursor, it is refused or it is a position.
func FuzzCursor(f *testing.F) {
	l := New(4)
	for i := range 10 {
		l.Happened(acquired(i))
	}
	for _, after := range []string{"", Oldest, l.cursor(0), l.cursor(10), l.cursor(11), "0123456789abcdef-7", "x-1", "-", "0123456789abcdef--1"} {
		f.Add(after)
	}
	f.Fuzz(func(t *testing.T, after string) {
		s, err := l.Subscribe("", after)
		if err != nil {
			return
		}
		for s.next < l.next {
			found, err := s.Next(t.Context())
			if err != nil || len(found) == 0 {
				t.Fatalf("after %q: %v, %v", after, found, err)
			}
		}
	})
}
