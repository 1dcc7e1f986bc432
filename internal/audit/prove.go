package audit

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"time"
)

// DefaultTolerance is how far the wall clocks of different hosts may be apart.
const DefaultTolerance = time.Second

// passBytes is how much of the logs is kept in memory at a time, about.
const passBytes = 256 << 20

// Options say how logs are read. The zero value is usable.
type Options struct {
	// Tolerance is how far the wall clocks of different hosts may be apart; 0
	// means DefaultTolerance.
	Tolerance time.Duration
	// Partial: the oldest pieces of the logs were deleted on purpose, so that runs
	// may begin in the middle.
	Partial bool
	// passes is set by tests.
	passes int
}

// Kind says what a violation is of.
type Kind string

// The kinds.
const (
	// KindGap: lines are missing.
	KindGap Kind = "gap"
	// KindDamage: a line is none.
	KindDamage Kind = "damage"
	// KindToken: a token did not rise.
	KindToken Kind = "token"
	// KindOverlap: two leases overlapped whose modes conflict, or one has no end
	// although another followed.
	KindOverlap Kind = "overlap"
	// KindOrder: the queue's order was not kept.
	KindOrder Kind = "order"
)

// Violation is something that must not be.
type Violation struct {
	Kind   Kind   `json:"kind"`
	File   string `json:"file"`
	Line   int    `json:"line"`
	LockID string `json:"lock_id,omitempty"`
	Text   string `json:"text"`
	wall   int64
}

// String names the line first, as compilers do.
func (v *Violation) String() string {
	lock := ""
	if v.LockID != "" {
		lock = "lock " + v.LockID + ": "
	}
	return fmt.Sprintf("%s:%d: %s: %s%s", v.File, v.Line, v.Kind, lock, v.Text)
}

// Report is what the logs amount to.
type Report struct {
	// Locks and Grants were looked at; Handovers are the grants that followed a
	// lease with which they conflict.
	Locks     int `json:"locks"`
	Grants    int `json:"grants"`
	Handovers int `json:"handovers"`
	// Queued are the grants from the queue. The order of Unordered of them is not
	// known: the store did not tell the ticket, or an operator moved the place.
	Queued    int `json:"queued"`
	Unordered int `json:"unordered"`
	// Overridden are the leases that an operator ended at once: only their token
	// protects from then on.
	Overridden int `json:"overridden"`
	// Unproven are the handovers without the earlier lease's end, which may be
	// among the last lines of a sidecar that was killed, or before the first ones
	// of a log.
	Unproven int `json:"unproven"`
	// Foreign are ends of leases whose grants are in no log.
	Foreign int `json:"foreign"`
	// Sidecars and Runs wrote the logs, in Lines lines.
	Sidecars []string `json:"sidecars"`
	Runs     int      `json:"runs"`
	Lines    int      `json:"lines"`
	// Open are the runs whose ends no line tells, Torn their last lines that were
	// cut off.
	Open []string `json:"open"`
	Torn []string `json:"torn"`
	// From and To are the times of the first line and the last.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Violations are in the order of their times.
	Violations []Violation `json:"violations"`
}

// maxViolations bounds those that are kept of one pass.
const maxViolations = 1000

// Prove reads the logs. An error says that they could not be read; what is wrong
// with what they tell is in the report.
func Prove(sources []Source, o Options) (*Report, error) {
	if o.Tolerance == 0 {
		o.Tolerance = DefaultTolerance
	}
	names, size := make([]string, 0, len(sources)), int64(0)
	for _, s := range sources {
		names, size = append(names, s.Name), size+s.Size
	}
	rep := &Report{Sidecars: []string{}, Open: []string{}, Torn: []string{}, Violations: []Violation{}}
	all := newRuns(names)
	for i, s := range sources {
		err := read(i, s, func(at where, l *Line) error {
			all.line(at, l)
			rep.Lines++
			if rep.From.IsZero() || l.Time.Before(rep.From) {
				rep.From = l.Time
			}
			if l.Time.After(rep.To) {
				rep.To = l.Time
			}
			return nil
		}, func(t torn) { all.damage = append(all.damage, t) })
		if err != nil {
			return nil, err
		}
	}
	all.settle()
	rep.describe(all)
	rep.Violations = append(rep.Violations, all.gaps(o.Partial)...)
	passes := max(int(size/passBytes)+1, o.passes)
	for pass := range passes {
		p := newPass(all, o)
		for i, s := range sources {
			err := read(i, s, func(at where, l *Line) error {
				if passes == 1 || l.LockID != "" && int(maphash.String(seed, l.LockID)%uint64(passes)) == pass { //nolint:gosec // small numbers
					return p.line(at, l)
				}
				return nil
			}, func(torn) {})
			if err != nil {
				return nil, err
			}
		}
		p.conclude(rep)
	}
	slices.SortStableFunc(rep.Violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.wall, b.wall), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return rep, nil
}

var seed = maphash.MakeSeed()

// describe tells who wrote.
func (rep *Report) describe(all *runs) {
	rep.Runs = len(all.byID)
	for _, of := range all.byID {
		if !slices.Contains(rep.Sidecars, of.sidecar) {
			rep.Sidecars = append(rep.Sidecars, of.sidecar)
		}
	}
	slices.Sort(rep.Sidecars)
	for _, of := range all.cut() {
		rep.Open = append(rep.Open, fmt.Sprintf("%s (run %s, last line %s)", of.sidecar, of.id, time.Unix(0, of.last.wall).UTC().Format(time.RFC3339Nano)))
	}
	for _, d := range all.damage {
		if d.tail || d.before != d.after {
			rep.Torn = append(rep.Torn, all.place(d.at))
		}
	}
}

func (r *runs) violation(kind Kind, at where, wall int64, lock, format string, args ...any) Violation {
	return Violation{Kind: kind, File: r.names[at.source], Line: int(at.line), LockID: lock, Text: fmt.Sprintf(format, args...), wall: wall}
}
