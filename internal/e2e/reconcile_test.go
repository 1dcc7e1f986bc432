package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// reconciler is the example's job table, a process of its own.
type reconciler struct {
	cmd *exec.Cmd
	url string
}

// job is a row of its table.
type job struct {
	State    string `json:"state"`
	Owner    string `json:"owner"`
	Token    int64  `json:"token"`
	Requeued int    `json:"requeued"`
}

type jobTable struct {
	Jobs       map[string]job `json:"jobs"`
	Duplicates int            `json:"duplicates"`
	Missed     int            `json:"missed"`
	Events     int            `json:"events"`
}

var listening = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

func reconcile(t *testing.T, args ...string) *reconciler {
	t.Helper()
	var out testenv.Output
	cmd := exec.Command(testenv.Python(t), append([]string{filepath.Join(root, "examples/python/examples/reconcile.py")}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = testenv.DieWithParent(&syscall.SysProcAttr{})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &reconciler{cmd: cmd}
	t.Cleanup(r.kill)
	eventually(t, "the job table listens", func() bool { return listening.MatchString(out.String()) })
	r.url = listening.FindString(out.String())
	return r
}

func (r *reconciler) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait() // killed: its error says so
}

func (r *reconciler) table(t *testing.T) (table jobTable) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, r.url+"/jobs", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(&table); err != nil {
		t.Fatal(err)
	}
	return table
}

func (r *reconciler) post(t *testing.T, body, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, r.url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// worker runs a job under its lock, as a process. It ends its job when it could not
// renew in time: with a short TTL that is after a stall of a moment.
func worker(t *testing.T, endpoint, name, ttl, command string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(testenv.Binary(t), "lock", "jobs/"+name, "--ttl", ttl, "--owner", unique("worker"), "--", "sh", "-c", command)
	cmd.Env = append(os.Environ(), "LOCKSIDECAR_ENDPOINT="+endpoint)
	cmd.SysProcAttr = testenv.DieWithParent(&syscall.SysProcAttr{})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// A worker is killed: two sidecars tell it to the job table, which queues the job
// again, once; the next worker does it.
func TestTheJobTableReconcilesAfterAKilledHolder(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedisT(t)
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	jobs := reconcile(t, "--listen", "127.0.0.1:0", "--token-file", secret)
	var fleet []*configured
	for i := range 2 {
		fleet = append(fleet, configure(t, fmt.Sprintf(
			"backends: {main: {url: %q}}\nevents: {sidecar: web-%d, webhooks: {jobs: {url: %s/locks, token_file: %s}}}\n", redis.URL(), i+1, jobs.url, secret)))
	}
	killed := worker(t, fleet[0].d.Endpoint(), "nightly", "5s", "sleep 60")
	eventually(t, "the job runs", func() bool { return jobs.table(t).Jobs["nightly"].State == "running" })
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // killed: its error says so
	eventually(t, "the job is queued again", func() bool { return jobs.table(t).Jobs["nightly"].State == "queued" })
	lost := jobs.table(t).Jobs["nightly"]
	if lost.Requeued != 1 {
		t.Errorf("after the kill the job is %+v", lost)
	}

	// The same fact again, by another sidecar, and one of an older holder.
	duplicate := fmt.Sprintf(`{"specversion":"1.0","id":"expired-%d-jobs/nightly","source":"/locksidecar/backends/main","type":"dev.locksidecar.lock.expired",`+
		`"subject":"jobs/nightly","data":{"fencing_token":"%d"}}`, lost.Token, lost.Token)
	before := jobs.table(t)
	if status := jobs.post(t, duplicate, "t0ken"); status != http.StatusNoContent {
		t.Errorf("the duplicate was answered with %d", status)
	}
	if after := jobs.table(t); after.Jobs["nightly"] != lost || after.Duplicates != before.Duplicates+1 {
		t.Errorf("after a duplicate %+v", after)
	}
	older := strings.NewReplacer(strconv.FormatInt(lost.Token, 10), strconv.FormatInt(lost.Token-1, 10)).Replace(duplicate)
	if status := jobs.post(t, older, "t0ken"); status != http.StatusNoContent || jobs.table(t).Jobs["nightly"] != lost {
		t.Errorf("an older token: %d, %+v", status, jobs.table(t))
	}
	if status := jobs.post(t, duplicate, "guessed"); status != http.StatusUnauthorized {
		t.Errorf("a wrong token was answered with %d", status)
	}

	if err := worker(t, fleet[1].d.Endpoint(), "nightly", "5s", "true").Wait(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job is done", func() bool { return jobs.table(t).Jobs["nightly"].State == "done" })
	if done := jobs.table(t).Jobs["nightly"]; done.Requeued != 1 || done.Token <= lost.Token {
		t.Errorf("the job is %+v", done)
	}
}

// A consumer that is down loses nothing that is kept. Beyond that it is told how
// much is missing, the counters add up, and the table reconciles by the locks that
// are held.
func TestAConsumerThatWasDownLosesNothingThatIsKept(t *testing.T) {
	path := socketPath(t)
	address := "127.0.0.1:" + testenv.FreePort(t)
	const keep = 400
	file := filepath.Join(t.TempDir(), "config.yaml")
	replace(t, file, fmt.Sprintf("backends: {main: {url: \"embedded:\"}}\nevents: {keep: %d, webhooks: {jobs: {url: http://%s/, parallel: 2}}}\n", keep, address))
	c := &configured{file: file, d: testenv.Daemon(t, "serve", "--config", file, "--socket", path, "--metrics", "127.0.0.1:0")}
	c.client = dial(t, c.d.Endpoint())
	count := func(name string) int {
		text := c.metric(t, "locksidecar_"+name+`_total{sink="webhook:jobs"}`)
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s: %q", name, text)
		}
		return int(n)
	}
	cycle := func(n int) {
		for i := range n {
			c.release(t, hold(t, c.client, fmt.Sprint("jobs/", i%10)))
		}
	}

	// Down from the beginning, with less than is kept.
	cycle(100)
	eventually(t, "it is tried again", func() bool { return count("event_retries") > 0 })
	jobs := reconcile(t, "--listen", address, "--sidecar", "unix://"+path)
	eventually(t, "everything is delivered", func() bool { return count("events_delivered") == 200 })
	if table := jobs.table(t); count("events_dropped") != 0 || table.Missed != 0 || table.Events != 200 || len(table.Jobs) != 10 {
		t.Errorf("dropped %d, the table is %+v", count("events_dropped"), table)
	}

	// Down again, for more than is kept.
	jobs.kill()
	cycle(1000)
	running := hold(t, c.client, "jobs/held")
	cycle(200) // what tells of it is not kept either
	if count("events_delivered") != 200 {
		t.Fatalf("delivered %d to nobody", count("events_delivered"))
	}
	jobs = reconcile(t, "--listen", address, "--sidecar", "unix://"+path)
	const all = 200 + 2*1200 + 1
	eventually(t, "everything is delivered or counted", func() bool { return count("events_delivered")+count("events_dropped") == all })
	eventually(t, "the table knows what is missing", func() bool { return jobs.table(t).Missed == count("events_dropped") })
	if dropped := count("events_dropped"); dropped == 0 || dropped > all-200-keep {
		t.Errorf("dropped %d of %d, of which %d are kept", dropped, all, keep)
	}
	if held := jobs.table(t).Jobs["held"]; held.State != "running" || held.Token != running.GetFencingToken() {
		t.Errorf("the job that runs is %+v", held)
	}
}

// consumer keeps what is posted to it, a line each.
type consumer struct {
	server *http.Server
	url    string
	got    testenv.Output
}

func consume(t *testing.T) *consumer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &consumer{url: "http://" + l.Addr().String()}
	c.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var line bytes.Buffer
		_, _ = line.ReadFrom(r.Body)
		line.WriteByte('\n')
		_, _ = c.got.Write(line.Bytes())
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { _ = c.server.Serve(l) }()
	t.Cleanup(func() { _ = c.server.Close() })
	return c
}

// A reload moves the sinks: a webhook that changes goes on where it was, a new one
// begins, an audit log follows its path; one that cannot be is refused.
func TestSinksAreReloaded(t *testing.T) {
	one, two := consume(t), consume(t)
	dir := t.TempDir()
	text := func(hook, audit string) string {
		return fmt.Sprintf("backends: {main: {url: \"embedded:\"}}\nevents: {sidecar: web-1, webhooks: {jobs: {url: %s}}, audit: {path: %s}}\n", hook, audit)
	}
	first, second := filepath.Join(dir, "one.jsonl"), filepath.Join(dir, "two.jsonl")
	c := configure(t, text(one.url, first))
	grant := func(id string) *lockpb.Lease { return hold(t, c.client, id) }
	a := grant("a")
	eventually(t, "the first consumer has it", func() bool { return strings.Contains(one.got.String(), `"subject":"a"`) })
	if got := c.hangup(t, text(two.url, second)); got.GetStale() {
		t.Fatalf("refused: %s", c.d.Output())
	}
	c.release(t, a)
	grant("b")
	eventually(t, "the second consumer has it", func() bool { return strings.Contains(two.got.String(), `"subject":"b"`) })
	if strings.Contains(one.got.String(), `"subject":"b"`) {
		t.Error("the first consumer is told after it was replaced")
	}
	for _, wrong := range []string{text(two.url, "/nowhere/audit.jsonl"), text(two.url, second) + "socket: {mode: \"0600\"}\n", strings.Replace(text(two.url, second), "web-1", "web-2", 1)} {
		if got := c.hangup(t, wrong); !got.GetStale() {
			t.Errorf("taken over: %s", wrong)
		}
	}
	grant("c")
	eventually(t, "the sinks went on", func() bool { return strings.Contains(two.got.String(), `"subject":"c"`) })
	if err := c.d.Stop(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(two.got.String(), `"type":"dev.locksidecar.lock.released"`) {
		t.Errorf("what happened over the change is not told: %s", two.got.String())
	}
	for path, want := range map[string]string{first: `"lock_id":"a"`, second: `"lock_id":"c"`} {
		if raw, err := os.ReadFile(path); err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s: %v, %s", path, err, raw)
		}
	}
	proof(t, 0, first, second)
}
