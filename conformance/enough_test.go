package conformance

import "testing"

// A case that could repeat hardly anything proves too little to pass.
func TestATenthOfTheRepetitionsIsEnough(t *testing.T) {
	for done, want := range map[int]int{0: 1, 9: 1, 10: 0, 100: 0} {
		c := &T{}
		if c.enough(done, 100); len(c.failure) != want {
			t.Errorf("%d of 100 repetitions: %q, want %d failures", done, c.failure, want)
		}
	}
}
