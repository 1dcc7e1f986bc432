package embedded

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// refused opens a file of the bytes and wants it refused with what to do, and left
// as it is.
func refused(t *testing.T, what string, raw []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "locks.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := NewMemory(Options{Path: path, Timeout: time.Second})
	if !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "mv ") || !strings.Contains(err.Error(), "wait 1m0s") {
		t.Errorf("%s: %v; want it refused with what to do", what, err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(raw, after) {
		t.Errorf("%s: the file was changed (%v)", what, err)
	}
}

// filled is a file of many records, so that it has pages of every kind.
func filled(t *testing.T) []byte {
	t.Helper()
	o := Options{Path: filepath.Join(t.TempDir(), "locks.db")}
	f, err := openFile(&Options{Path: o.Path, Prefix: defaultPrefix, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string][]byte)
	for i := range 300 {
		r := golden()[0]
		r.id = "lock/" + strings.Repeat("x", i%50) + string(rune('a'+i%26)) + strings.Repeat("y", i/26)
		values[r.id] = r.encode(0)
	}
	if err := errors.Join(f.begin("boot", values), f.write(map[string][]byte{"lock/a": nil}), f.db.Close()); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestATornOrForeignFileIsRefused(t *testing.T) {
	raw := filled(t)
	refused(t, "empty", nil)
	refused(t, "text", []byte(strings.Repeat("not a store of locks\n", 1000)))
	refused(t, "zeros", make([]byte, 1<<16))
	for _, page := range []int{0, 1} { // the library would go back by a transaction
		broken := bytes.Clone(raw)
		broken[page*os.Getpagesize()+pageHead+50] ^= 1
		refused(t, "a damaged name", broken)
	}
	var used int64
	path := filepath.Join(t.TempDir(), "size.db")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.View(func(tx *bbolt.Tx) error { used = tx.Size(); return nil }), db.Close()); err != nil {
		t.Fatal(err)
	}
	for size := 1; size < int(used); size += 1999 {
		refused(t, "torn", raw[:size])
	}
	other := filepath.Join(t.TempDir(), "other.db")
	if db, err = bbolt.Open(other, 0o600, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "another program's", foreign)
}

// Whatever is damaged, the file is refused or every record in it is one that was
// written: nothing is made up, and nothing crashes.
func TestADamagedFileIsRefusedOrWhole(t *testing.T) {
	raw := filled(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	refusals := 0
	const files = 300
	for range files {
		broken := bytes.Clone(raw)
		at := rnd.IntN(len(broken))
		switch rnd.IntN(3) {
		case 0: // a bit
			broken[at] ^= 1 << rnd.IntN(8)
		case 1: // a sector
			at &^= 511
			for i := range 512 {
				broken[at+i] = byte(rnd.Uint32())
			}
		default: // a page that was never written
			at &^= 4095
			clear(broken[at : at+4096])
		}
		path := filepath.Join(t.TempDir(), "locks.db")
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := NewMemory(Options{Path: path, Timeout: time.Second})
		if err != nil {
			refusals++
			if !errors.Is(err, driver.ErrUnavailable) && !errors.Is(err, driver.ErrFormat) {
				t.Errorf("byte %d: %v", at, err)
			}
			continue
		}
		page, err := m.Open().List(t.Context(), &driver.ListRequest{PageSize: 1000})
		if err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
		for _, l := range page.Locks {
			if len(l.Holders) != 1 || l.Token != 1790000000000001 {
				t.Errorf("byte %d: made up %+v", at, l)
			}
		}
		if err := m.Close(); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	if refusals == 0 {
		t.Error("no damage was noticed")
	}
	t.Logf("%d of %d refused", refusals, files)
}
