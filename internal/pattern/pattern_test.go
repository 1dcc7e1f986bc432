package pattern

import (
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, lock string
		why           string // empty: it matches
	}{
		{"a", "a", ""},
		{"a", "b", `its segment 1 is "b", not "a"`},
		{"a", "a/b", `it goes on after segment 1, with "b"`},
		{"a/b", "a", `it ends before segment 2, "b"`},
		{"*", "a:b", ""},
		{"*", "a/b", `it goes on after segment 1, with "b"`},
		{"a/*/c", "a/b/c", ""},
		{"a/*/c", "a/b/d", `its segment 3 is "d", not "c"`},
		{"a/**", "a/b/c", ""},
		{"a/**", "a", `it ends before segment 2, "**"`},
		{"**", "a/b/c", ""},
		{"*/**", "a/b", ""},
		{"*/**", "a", `it ends before segment 2, "**"`},
	} {
		p, err := Parse(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(c.lock); got != (c.why == "") {
			t.Errorf("%s matches %s: %t", c.pattern, c.lock, got)
		}
		if got := p.Mismatch(c.lock); got != c.why {
			t.Errorf("%s does not match %s because %q, want %q", c.pattern, c.lock, got, c.why)
		}
		if p.String() != c.pattern {
			t.Errorf("%q was written %q", p.String(), c.pattern)
		}
	}
}

func TestParseRefusesWhatWouldMatchNothing(t *testing.T) {
	for _, s := range []string{"", "/a", "a/", "a//b", "a/./b", "..", "a*", "**/a", "a/***", "a/b*c"} {
		if p, err := Parse(s); err == nil {
			t.Errorf("%q is the pattern %v", s, p)
		}
	}
}

// What explains and what decides never disagree.
func FuzzMatch(f *testing.F) {
	f.Add("a/*/**", "a/b/c")
	f.Fuzz(func(t *testing.T, s, lock string) {
		p, err := Parse(s)
		if err == nil && p.Match(lock) != (p.Mismatch(lock) == "") {
			t.Errorf("%q and %q: %t, %q", s, lock, p.Match(lock), p.Mismatch(lock))
		}
	})
}
