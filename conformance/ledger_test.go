package conformance_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/conformance"
)

const (
	// ledgerFile is a line for each time that a row's slice was repeated: day, row,
	// server, repeats, cases of each, failed repeats, seed of the first (that of each
	// next is one more), and how long the longest took.
	ledgerFile = "testdata/ledger.tsv"
	// enough are the repeats without a failure that each row must have.
	enough = 20
)

var repeats = flag.Int("repeats", 0, "instead of a row's cases, repeat a slice of them so many times, and add that to "+ledgerFile)

// slice are cases of every kind that take no more than five seconds together. The
// Makefile reads it.
const slice = `^(Admin/(EvictionLets|RevocationNeeds)|Exclusion/[FLS]|Expiry/(NeverEarly|RenewDoesNotRevive)|Fencing/(Floor|Shared|TokenRisesAfter(Release|Eviction))|Idempotence/(L|Repeated)|Identity|Modes|Reentrancy|Waiting/(DeadWaiters|Leaver|NoBarging|Positions|Priority))`

// repeated repeats the slice on a row, each time with another seed.
func repeated(t *testing.T, r row, h conformance.Harness) {
	t.Helper()
	r.options.Filter = regexp.MustCompile(slice)
	first, failed, longest := rand.Uint64()>>1, 0, time.Duration(0)
	var server string
	var cases int
	for i := range *repeats {
		r.options.Seed = first + uint64(i)
		report, err := conformance.Run(t.Context(), h, r.options)
		if err != nil {
			t.Fatal(err)
		}
		if !report.Green() {
			failed++
			t.Errorf("repeat %d:\n%s", i, report.Table())
		}
		server, cases, longest = report.Server, report.Count(conformance.Passed)+report.Count(conformance.Failed), max(longest, report.Duration)
	}
	f, err := os.OpenFile(ledgerFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	line := fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%d\t%d\t%v\n", time.Now().UTC().Format(time.DateOnly), r.name, server, *repeats, cases, failed, first, longest.Round(10*time.Millisecond))
	if _, err := f.WriteString(line); err != nil {
		t.Fatal(err)
	}
}

// ledger is, for each row, how many repeats there were, how many of them failed, and
// how many there were since the last that did.
type ledger map[string]struct{ all, failed, since int }

func readLedger(t *testing.T) ledger {
	t.Helper()
	raw, err := os.ReadFile(ledgerFile)
	if err != nil {
		t.Fatal(err)
	}
	l := make(ledger)
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 8 {
			t.Fatalf("%s: %q has %d fields", ledgerFile, line, len(f))
		}
		var n [3]int
		for i, text := range []string{f[3], f[4], f[5]} {
			if n[i], err = strconv.Atoi(text); err != nil {
				t.Fatalf("%s: %q: %v", ledgerFile, line, err)
			}
		}
		e := l[f[1]]
		e.all += n[0]
		e.failed += n[2]
		if e.since += n[0]; n[2] > 0 {
			e.since = 0
		}
		l[f[1]] = e
	}
	return l
}

// Each row of the matrix was repeated often enough since it last failed.
func TestLedgerHasEveryRow(t *testing.T) {
	l := readLedger(t)
	for _, s := range stores {
		for _, way := range []string{"", "-breaker", "-socket"} {
			if e := l[s.name+way]; e.since < enough {
				t.Errorf("%s was repeated %d times since it last failed, want %d: make conformance-repeat", s.name+way, e.since, enough)
			}
			delete(l, s.name+way)
		}
	}
	for _, name := range []string{"postgres", "postgres-breaker", "redis-tls-acl", "redis-cluster-moving", "etcd-tls-rbac"} {
		if e := l[name]; e.since < enough {
			t.Errorf("%s was repeated %d times since it last failed, want %d: make conformance-repeat", name, e.since, enough)
		}
		delete(l, name)
	}
	for name := range l {
		t.Errorf("%s is a row of nothing", name)
	}
}
