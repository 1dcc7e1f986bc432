package etcd_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/etcd"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/internal/mutation"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// A mutant is a comparison of a transaction that is flipped on its way to the
// server: the function that made the transaction, what is compared and how. Those of
// one name after the first, which a loop has made, are one mutant, because how many
// they are differs from run to run. Each is caught by a case of the suite, which
// testdata/mutants.txt names.

var findMutants = flag.Bool("mutants", false, "find for each mutant without one in testdata/mutants.txt a case that catches it")

const (
	mutantFile    = "testdata/mutants.txt"
	mutantsAtOnce = 8 // most of their time is waiting
	// further ends the name of the comparisons after the first one of a name.
	further = " #2 and on"
	// noCase stands in the file for a mutant with which no case runs: the store
	// grants nothing, and the suite says that it could not run.
	noCase = "no case: the suite cannot run"
)

// flips says what a comparison becomes.
var flips = map[pb.Compare_CompareResult]pb.Compare_CompareResult{
	pb.Compare_EQUAL: pb.Compare_NOT_EQUAL, pb.Compare_GREATER: pb.Compare_EQUAL,
}

// meddler flips the comparisons that a mutant names, and knows which there were.
type meddler struct {
	mutant string
	// prefix is that of a store of its own: no run meets another one's.
	prefix string
	mu     sync.Mutex
	met    map[string]bool
}

func (m *meddler) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	txn, ok := req.(*pb.TxnRequest)
	if !ok || len(txn.Compare) == 0 {
		return invoke(ctx, method, req, reply, cc, o...)
	}
	txn = proto.Clone(txn).(*pb.TxnRequest)
	by := maker()
	met := make(map[string]bool)
	for _, c := range txn.Compare {
		name := fmt.Sprintf("%s: %s %s %s", by, m.kindOf(c), strings.ToLower(c.Target.String()), c.Result)
		if met[name] {
			name += further
		}
		met[name] = true
		m.mu.Lock()
		m.met[name] = true
		m.mu.Unlock()
		if name == m.mutant {
			c.Result = flips[c.Result]
		}
	}
	return invoke(ctx, method, txn, reply, cc, o...)
}

var methodName = regexp.MustCompile(`backend/etcd\.(?:\(\*?(\w+)\)\.)?(\w+)`)

// maker is the function of the driver that made the transaction which is being sent.
func maker() string {
	pc := make([]uintptr, 64)
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
	for {
		f, more := frames.Next()
		found := methodName.FindStringSubmatch(f.Function)
		if found != nil && !slices.Contains([]string{"commit", "call", "change"}, found[2]) {
			return strings.TrimPrefix(found[1]+"."+found[2], ".")
		}
		if !more {
			return "?"
		}
	}
}

// kinds are what the driver's keys are called here; others are called as they are.
var kinds = map[string]string{"r": "record", "r*": "records", "f": "floor", "h": "holder", "h*": "holders", "q": "place", "q*": "places"}

// kindOf says which key is compared, or that it is a range of them.
func (m *meddler) kindOf(c *pb.Compare) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(string(c.Key), m.prefix+"/"), "/")
	if strings.HasSuffix(string(c.Key), "!") && kind == "h" && c.RangeEnd == nil {
		kind = "alive"
	}
	if c.RangeEnd != nil {
		kind += "*"
	}
	if known, ok := kinds[kind]; ok {
		return known
	}
	return kind
}

// on is a harness on an etcd whose drivers' transactions are meddled with.
func (m *meddler) on(e *testenv.Etcd) conformance.Harness {
	o := etcd.Options{
		Prefix: m.prefix, Endpoints: e.Addrs(), Poll: 200 * time.Millisecond, Timeout: 15 * time.Second,
		Dial: []grpc.DialOption{grpc.WithChainUnaryInterceptor(m.intercept)},
	}
	return conformance.Harness{
		Open: func(context.Context) (driver.Driver, error) { return etcd.New(o) },
		Collect: func(ctx context.Context) error {
			later := o
			later.Wall = func() time.Time { return time.Now().Add(48 * time.Hour) }
			d, err := etcd.New(later)
			if err != nil {
				return err
			}
			defer func() { _ = d.Close() }()
			_, err = d.Collect(ctx, 24*time.Hour)
			return err
		},
	}
}

// run runs one case, and says whether it is red, and which comparisons it met; an
// error says that the case did not run.
func run(t *testing.T, e *testenv.Etcd, mutant, name string) (red bool, met map[string]bool, err error) {
	t.Helper()
	m := &meddler{mutant: mutant, prefix: fmt.Sprint("run", serial.Add(1)), met: make(map[string]bool)}
	report, err := conformance.Run(t.Context(), m.on(e), conformance.Options{Seed: 1, Filter: regexp.MustCompile("^" + name + "$")})
	m.mu.Lock()
	defer m.mu.Unlock()
	return err == nil && report.Count(conformance.Failed) > 0, m.met, err
}

func TestEveryComparisonOfTheTransactionsMatters(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	if *findMutants {
		find(t, e)
		return
	}
	raw, err := os.ReadFile(mutantFile)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(strings.Lines(string(raw)))
	if len(lines) < 20 {
		t.Errorf("only %d mutants are named", len(lines))
	}
	var mu sync.Mutex
	every := make(map[string]bool)
	atOnce(mutation.Drawn(t, lines), func(line string) {
		mutant, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		runs := name
		if name == noCase {
			runs = "Exclusion/SecondOwnerIsRefused"
		}
		red, met, err := run(t, e, mutant, runs)
		switch {
		case !met[mutant]:
			t.Errorf("%s does not get to %s", name, mutant)
		case name == noCase && !errors.Is(err, conformance.ErrNotRun):
			t.Errorf("with %s the suite runs: %v", mutant, err)
		case name != noCase && (err != nil || !red):
			t.Errorf("%s does not catch %s: %v", name, mutant, err)
		}
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(every, met)
	})
	for mutant := range every {
		if !slices.Contains(elsewhere, mutant) && !strings.Contains(string(raw), mutant+"\t") {
			t.Errorf("%s is not in %s, find its case by -mutants", mutant, mutantFile)
		}
	}
}

// atOnce does f with each of a list, of some of them at once.
func atOnce[T any](list []T, f func(T)) {
	var running sync.WaitGroup
	slots := make(chan struct{}, mutantsAtOnce)
	for _, one := range list {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			f(one)
		})
	}
	running.Wait()
}

// find writes the file: for each comparison that any case gets to, the fastest case
// which catches that it is flipped.
func find(t *testing.T, e *testenv.Etcd) {
	type meeting struct {
		name string
		took time.Duration
	}
	by := make(map[string][]meeting)
	var mu sync.Mutex
	atOnce(conformance.Cases(), func(c conformance.Case) {
		begun := time.Now()
		red, met, err := run(t, e, "", c.Name)
		if red || err != nil {
			t.Errorf("%s is red without any mutant: %v", c.Name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for mutant := range met {
			if slices.Contains(elsewhere, mutant) {
				continue
			}
			by[mutant] = append(by[mutant], meeting{c.Name, time.Since(begun)})
		}
	})
	var lines []string
	atOnce(slices.Collect(maps.Keys(by)), func(mutant string) {
		slices.SortFunc(by[mutant], func(a, b meeting) int { return int(a.took - b.took) })
		verdict := "nothing"
		for _, m := range by[mutant] {
			red, _, err := run(t, e, mutant, m.name)
			if errors.Is(err, conformance.ErrNotRun) {
				verdict = noCase
			} else if red {
				verdict = m.name
				break
			}
		}
		t.Logf("%s\t%s", mutant, verdict)
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, mutant+"\t"+verdict+"\n")
	})
	slices.Sort(lines)
	if err := os.WriteFile(mutantFile, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pauseComparison is one that no case of the suite is red for.
const pauseComparison = "Store.pause: stamp mod EQUAL"

// elsewhere are the comparisons that no case of the suite gets to every time. They
// have tests of their own: below, and in further_test.go.
var elsewhere = []string{pauseComparison, "attempt.queue: place mod EQUAL" + further, "refreshes.write: place mod EQUAL" + further}

// The one transaction that no case needs is the pause of a store which has records
// and has lost its stamp: it is there, and with its comparison flipped it is not.
func TestTheComparisonOfThePauseMatters(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	for _, mutant := range []string{"", pauseComparison} {
		m := &meddler{mutant: mutant, prefix: fmt.Sprint("run", serial.Add(1)), met: make(map[string]bool)}
		h, c := m.on(e), e.Client(t)
		d, err := h.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r := asked("a", "one")
		released(t, d, r, granted(t, d, r))
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Delete(t.Context(), m.prefix+"/stamp"); err != nil {
			t.Fatal(err)
		}
		if d, err = h.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, err = d.Acquire(ctx, asked("a", "two"))
		cancel()
		pause, failed := c.Get(t.Context(), m.prefix+"/pause")
		if failed != nil || !m.met[pauseComparison] {
			t.Fatalf("%v, and the comparisons were %v", failed, m.met)
		}
		if paused := errors.Is(err, driver.ErrQuarantined) && len(pause.Kvs) == 1; paused != (mutant == "") {
			t.Errorf("with %q an acquire says %v, and there are %d pauses", mutant, err, len(pause.Kvs))
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
