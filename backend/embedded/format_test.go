package embedded

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var update = flag.Bool("update", false, "write the golden records of the current format")

// golden are the records of testdata/format1.txt: a held lock with everything
// that a lease can have, one that readers share, one with a queue, and a free one.
func golden() []*record {
	const made = driver.Instant(time.Hour)
	held := newRecord("orders/42")
	held.last = 1790000000000001
	held.holders = []*holder{{
		owner: "web-1", token: held.last, key: driver.KeyOf("lease of web-1"), holds: []string{"request 1", "request 2"}, attach: 3,
		ttl: 30 * time.Second, expires: made.Add(20 * time.Second), revoked: true, metadata: map[string]string{"host": "a", "pod": "b"},
	}}
	held.ends = []end{{request: "request 0", token: 1790000000000000, key: driver.KeyOf("lease of web-0"), cause: driver.CauseReleased, attempt: driver.KeyOf("attempt")}}

	shared := newRecord("report")
	shared.last = 1790000000000012
	for i := range int64(2) {
		shared.holders = append(shared.holders, &holder{
			owner: fmt.Sprint("reader-", i), token: 1790000000000011 + i, key: driver.KeyOf(fmt.Sprint("lease of reader ", i)), shared: true,
			holds: []string{fmt.Sprint("read ", i)}, attach: 1, ttl: 15 * time.Second, expires: made.Add(15 * time.Second),
		})
	}

	queued := newRecord("queue")
	queued.last, queued.seq = 1790000000000021, 3
	queued.holders = []*holder{{
		owner: "first", token: queued.last, key: driver.KeyOf("lease of first"), holds: []string{"request first"}, attach: 1,
		ttl: time.Minute, expires: made.Add(time.Minute),
	}}
	for i := range int64(3) {
		w := &waiter{
			owner: fmt.Sprint("waiter-", i), request: fmt.Sprint("wait ", i), ticket: i + 1, priority: int(i / 2), shared: i == 1,
			key: driver.KeyOf(fmt.Sprint("lease of waiter ", i)), lasts: 6 * time.Second,
		}
		w.order = driver.OrderKey(w.ticket, w.priority)
		queued.enqueue(w)
	}

	idle := newRecord("idle")
	idle.last, idle.keepUntil = 1790000000000031, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)
	idle.ends = []end{
		{request: "request idle", token: idle.last, key: driver.KeyOf("lease of idle"), cause: driver.CauseExpired},
		{request: "tombstone", cause: driver.CauseReleased},
	}
	idle.evicted = []untold{{Ended: driver.Ended{LockID: "idle", OwnerID: "dead", Token: idle.last, Cause: driver.CauseExpired}}}
	return []*record{held, shared, queued, idle}
}

const (
	goldenText = "testdata/format1.txt"
	goldenFile = "testdata/format1.db"
)

// committed reads the golden records: "lock id", then hexadecimal, a line each.
func committed(t testing.TB) map[string][]byte {
	t.Helper()
	raw, err := os.ReadFile(goldenText)
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string][]byte)
	for line := range strings.Lines(string(raw)) {
		var id, text string
		if _, err := fmt.Sscanf(line, "%q %s\n", &id, &text); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if values[id], err = hex.DecodeString(text); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

// What this version writes is, byte by byte, what was committed when the format
// was made; and it reads it.
func TestGoldenRecords(t *testing.T) {
	records := golden()
	if *update {
		writeGolden(t, records)
	}
	values := committed(t)
	if len(values) != len(records) {
		t.Errorf("%d golden records, want %d", len(values), len(records))
	}
	for _, want := range records {
		raw := values[want.id]
		if got := want.encode(driver.Instant(time.Hour)); !bytes.Equal(got, raw) {
			t.Errorf("%q is written as\n%x, the format 1 has\n%x", want.id, got, raw)
		}
		r, written, err := decode(want.id, raw, 0)
		if err != nil || written != driver.Instant(time.Hour) {
			t.Errorf("%q: %v, written at %d", want.id, err, written)
			continue
		}
		if again := r.encode(written); !bytes.Equal(again, raw) {
			t.Errorf("%q is read and written as\n%x", want.id, again)
		}
	}
}

func writeGolden(t *testing.T, records []*record) {
	t.Helper()
	values := make(map[string][]byte)
	var text strings.Builder
	for _, r := range records {
		values[r.id] = r.encode(driver.Instant(time.Hour))
		fmt.Fprintf(&text, "%q %x\n", r.id, values[r.id])
	}
	if err := errors.Join(os.MkdirAll("testdata", 0o750), os.WriteFile(goldenText, []byte(text.String()), 0o600), os.RemoveAll(goldenFile)); err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Abs(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	f, err := openFile(&Options{Path: path, Prefix: defaultPrefix, Timeout: time.Second})
	if err == nil {
		err = errors.Join(f.begin("the boot of the golden file", values), f.db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// goldenCopy is a copy of the golden file.
func goldenCopy(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "locks.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file of format 1 is opened by this version, and its locks go on.
func TestTheGoldenFileGoesOn(t *testing.T) {
	m := opened(t, Options{Path: goldenCopy(t)})
	d := m.Open()
	m.consistent(t)
	ref := func(lock, leaseID string, token, attach int64) driver.LeaseRef {
		return driver.LeaseRef{LockID: lock, Key: driver.KeyOf(leaseID), Token: token, Attach: attach}
	}
	if h := inspect(t, d, "orders/42").Holders; len(h) != 1 || h[0].HoldCount != 2 || !h[0].Revoked || h[0].Metadata["pod"] != "b" || h[0].Remaining > 20*time.Second {
		t.Errorf("the held lock has %+v", h)
	}
	for _, hold := range []string{"request 1", "request 2"} {
		if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: ref("orders/42", "lease of web-1", 1790000000000001, 3), RequestID: hold}); err != nil {
			t.Errorf("release of %s: %v", hold, err)
		}
	}
	if _, err := d.Renew(t.Context(), &driver.RenewRequest{LeaseRef: ref("report", "lease of reader 1", 1790000000000012, 1), TTL: time.Minute}); err != nil {
		t.Errorf("renewal of a shared lease: %v", err)
	}
	if w := inspect(t, d, "queue").Waiters; len(w) != 3 || w[0].OwnerID != "waiter-2" || w[1].OwnerID != "waiter-0" || !w[2].Shared {
		t.Errorf("the queue is %+v", w)
	}
	if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: ref("queue", "lease of first", 1790000000000021, 1)}); err != nil {
		t.Error(err)
	}
	next := queued(request("queue", "wait 2"))
	next.OwnerID, next.Key, next.Priority = "waiter-2", driver.KeyOf("lease of waiter 2"), 1
	if l := granted(t, d, next); l.Token <= 1790000000000021 {
		t.Errorf("the next token is %d", l.Token)
	}
	if _, err := d.Acquire(t.Context(), request("idle", "tombstone")); !errors.Is(err, driver.ErrLost) {
		t.Errorf("an acquire after its tombstone: %v", err)
	}
	if ended, err := d.Sweep(t.Context()); err != nil || len(ended) != 1 || ended[0].OwnerID != "dead" {
		t.Errorf("the sweep found %+v, %v", ended, err)
	}
	if l := granted(t, d, request("idle", "new")); l.Token <= 1790000000000031 {
		t.Errorf("the next token of the free lock is %d", l.Token)
	}
}

// edit changes a file by its library.
func edit(t testing.TB, path string, f func(root *bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return f(tx.Bucket([]byte(rootBucket))) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestANewerFormatIsRefusedByName(t *testing.T) {
	for name, change := range map[string]func(root *bbolt.Bucket) error{
		"the file has format 2": func(root *bbolt.Bucket) error { return root.Put([]byte(formatKey), []byte("2")) },
		`the record of "idle" has format 2`: func(root *bbolt.Bucket) error {
			locks := root.Bucket([]byte(defaultPrefix)).Bucket([]byte(locksBucket))
			raw := slices.Clone(locks.Get([]byte("idle")))
			raw[0] = 2
			return locks.Put([]byte("idle"), raw)
		},
	} {
		path := goldenCopy(t)
		edit(t, path, change)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewMemory(Options{Path: path})
		if !errors.Is(err, driver.ErrFormat) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the refused file was changed (%v)", name, err)
		}
	}
}

// FuzzRecord: whatever the bytes, reading them neither fails badly nor gives what
// cannot be written again.
func FuzzRecord(f *testing.F) {
	values := committed(f)
	for _, id := range slices.Sorted(maps.Keys(values)) {
		f.Add(id, values[id][bodyAt:])
	}
	f.Fuzz(func(t *testing.T, id string, body []byte) {
		r, written, err := decode(id, sealed(id, body), 0)
		if err != nil {
			return
		}
		again, _, err := decode(id, r.encode(written), 0)
		if err != nil || !bytes.Equal(again.encode(written), r.encode(written)) {
			t.Errorf("read %x, written %x: %v", body, r.encode(written), err)
		}
	})
}

// sealed is a body with the head that makes it a record.
func sealed(id string, body []byte) []byte {
	sum := checksum(id, body)
	return append([]byte{driver.Format, byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, body...)
}
