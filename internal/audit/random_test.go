package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Random fleets that obey the rules are proven, whatever the order of their
// files.
func TestRandomGoodFleets(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		f := newFleet()
		var all []*sidecar
		for i := range 1 + rng.IntN(4) {
			all = append(all, f.sidecar(fmt.Sprint("s", i), strings.Repeat("b", 1+rng.IntN(2)), 0))
		}
		some := func() *sidecar { return all[rng.IntN(len(all))] }
		for i := range 30 {
			lock := fmt.Sprint("lock/", rng.IntN(3))
			s := some()
			a := s.acquired(lock, fmt.Sprint("o", i))
			switch rng.IntN(4) {
			case 0:
				f.after(time.Minute)
				some().tells("expired", lock, a)
			case 1:
				some().tells("force_released", lock, a, func(l *Line) { l.Ended = true })
			case 2:
				f.after(11 * time.Second)
				s.tells("lost", lock, a, func(l *Line) { l.Reason = "unreachable"; l.ValidUntil = s.at(f.now) })
			default:
				f.after(time.Duration(rng.IntN(5000)) * time.Millisecond)
				some().released(lock, a)
			}
		}
		for _, s := range all {
			s.stop()
		}
		texts := f.files()
		rng.Shuffle(len(texts), func(i, j int) { texts[i], texts[j] = texts[j], texts[i] })
		if r := prove(t, texts, Options{passes: 1 + rng.IntN(3)}); len(r.Violations) != 0 || r.Grants != 30 {
			t.Fatalf("%d grants, %v", r.Grants, r.Violations)
		}
	}
}

// Whatever a file has, it is read.
func FuzzProve(f *testing.F) {
	g, _, _, _ := good()
	for _, text := range g.files() {
		f.Add([]byte(text))
	}
	f.Add([]byte("{}\n{\"run\":\"a\",\"type\":\"acquired\",\"lock_id\":\"x\"}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Prove([]Source{{Name: "f", Size: int64(len(raw)), File: bytes.NewReader(raw)}}, Options{passes: 2})
		if err == nil && r.Lines > bytes.Count(raw, []byte("\n"))+1 {
			t.Errorf("%d lines of %d bytes", r.Lines, len(raw))
		}
	})
}

func BenchmarkProve(b *testing.B) {
	f := newFleet()
	one, two := f.sidecar("one", "a", 0), f.sidecar("two", "bb", 0)
	for i := range 20_000 {
		lock := fmt.Sprint("lock/", i%500)
		s := []*sidecar{one, two}[i%2]
		a := s.acquired(lock, fmt.Sprint("o", i))
		f.after(trip)
		s.released(lock, a)
	}
	texts := f.files()
	b.SetBytes(int64(len(texts[0]) + len(texts[1])))
	for b.Loop() {
		if r := prove(b, texts, Options{}); len(r.Violations) > 0 {
			b.Fatal(r.Violations[0].String())
		}
	}
}
