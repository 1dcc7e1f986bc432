package embedded

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The file, format 1:
//
//	bucket "locksidecar"
//	  "format"            the major version, in decimal
//	  bucket <prefix>     the locks of one Options.Prefix
//	    "boot"            the Options.Boot of the instants in the records
//	    bucket "locks"    lock id -> record
const (
	rootBucket  = "locksidecar"
	locksBucket = "locks"
	formatKey   = "format"
	bootKey     = "boot"
)

const (
	fileMode = 0o600
	dirMode  = 0o750
)

// file is the open file of one prefix.
type file struct {
	db     *bbolt.DB
	prefix string
}

// damaged refuses the file for what was found in it, and says what to do.
func damaged(path string, why error) error {
	return fmt.Errorf("embedded: %w: %s is damaged, or not a store of locks: %w; it was left as it is. "+
		"Restore it from a copy that no daemon has used since, or move it away (mv %s %s.damaged) and start again: that forgets every lease, "+
		"so first wait %v from the end of the last daemon that used it", driver.ErrUnavailable, path, why, path, path, maxTTL)
}

// openFile opens the file, or makes it if there is none.
func openFile(o *Options) (*file, error) {
	if err := os.MkdirAll(filepath.Dir(o.Path), dirMode); err != nil {
		return nil, fmt.Errorf("embedded: %w: the directory of the file: %w", driver.ErrUnavailable, err)
	}
	if _, err := os.Lstat(o.Path); errors.Is(err, os.ErrNotExist) {
		if err := create(o.Path); err != nil {
			return nil, fmt.Errorf("embedded: %w: making %s: %w", driver.ErrUnavailable, o.Path, err)
		}
	}
	f := &file{prefix: o.Prefix}
	var err error
	if f.db, err = open(o); err != nil {
		return nil, refusal(o, err)
	}
	if err := guarded(func() error { return f.check() }); err != nil {
		_ = f.db.Close()
		return nil, refusal(o, err)
	}
	return f, nil
}

// refusal is the error of a file that is not opened.
func refusal(o *Options, err error) error {
	var path *os.PathError
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("embedded: %w: another process has %s open, for more than %v; a file is for one daemon: stop that one, "+
			"or give this one a file of its own", driver.ErrUnavailable, o.Path, o.Timeout)
	case errors.Is(err, driver.ErrFormat):
		return fmt.Errorf("embedded: %s: %w; run the version that wrote it, or a later one", o.Path, err)
	case errors.As(err, &path):
		return fmt.Errorf("embedded: %w: %w", driver.ErrUnavailable, err)
	}
	return damaged(o.Path, err)
}

// errEmpty: the file has no bytes. One that this package makes always has some.
var errEmpty = errors.New("it is empty")

// open opens a file that is there, and waits a bounded time for its lock.
func open(o *Options) (db *bbolt.DB, err error) {
	err = guarded(func() error {
		db, err = bbolt.Open(o.Path, fileMode, &bbolt.Options{
			Timeout: o.Timeout, FreelistType: bbolt.FreelistMapType, NoStatistics: true, MaxSize: o.maxSize,
			OpenFile: func(path string, flags int, mode os.FileMode) (*os.File, error) {
				f, err := os.OpenFile(path, flags&^os.O_CREATE, mode)
				if err != nil {
					return nil, err
				}
				if info, err := f.Stat(); err != nil || info.Size() == 0 {
					_ = f.Close()
					return nil, errors.Join(err, errEmpty)
				}
				return f, nil
			},
		})
		return err
	})
	return db, err
}

// guarded runs f, which reads a file that may be damaged: a panic of the library,
// or a fault at a page that the file does not have, is an error.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return f()
}

// create makes a file that is complete when it appears under its name, and
// durable. If another process makes it at the same time, that one stays.
func create(path string) (err error) {
	dir := filepath.Dir(path)
	t, err := os.CreateTemp(dir, "."+filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(t.Name())) }()
	if err := t.Close(); err != nil {
		return err
	}
	db, err := bbolt.Open(t.Name(), fileMode, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		root, err := tx.CreateBucket([]byte(rootBucket))
		if err != nil {
			return err
		}
		return root.Put([]byte(formatKey), strconv.AppendInt(nil, driver.Format, 10))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(t.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// The pages 0 and 1 name the two latest transactions in turn. After 16 bytes of a
// page's head come 56 bytes and their FNV-1a sum, all in the machine's byte order.
const (
	pageHead  = 16
	metaBytes = 56
)

// checkNames refuses a file of which one of these pages is damaged. The library
// would go back to the transaction before, as if the latest had never been
// answered.
func (f *file) checkNames() error {
	r, err := os.Open(f.db.Path())
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	for page := range int64(2) {
		var meta [metaBytes + 8]byte
		if _, err := r.ReadAt(meta[:], page*int64(f.db.Info().PageSize)+pageHead); err != nil {
			return err
		}
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:metaBytes]) // it never fails
		if sum.Sum64() != binary.NativeEndian.Uint64(meta[metaBytes:]) {
			return fmt.Errorf("page %d has another checksum than it says", page)
		}
	}
	return nil
}

// check looks at the whole file: first that it is as long as it says, then its
// format and every record of the root, whatever their prefix, then the pages.
func (f *file) check() error {
	if err := f.checkNames(); err != nil {
		return err
	}
	return f.db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(f.db.Path())
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("it has %d bytes and should have %d", info.Size(), tx.Size())
		}
		root := tx.Bucket([]byte(rootBucket))
		if root == nil {
			return fmt.Errorf("it has no bucket %q", rootBucket)
		}
		format, err := strconv.ParseInt(string(root.Get([]byte(formatKey))), 10, 64)
		if err != nil {
			return fmt.Errorf("its format is unreadable: %w", err)
		}
		if format > driver.Format {
			return newer("the file", format)
		}
		err = root.ForEachBucket(func(prefix []byte) error {
			locks := root.Bucket(prefix).Bucket([]byte(locksBucket))
			if locks == nil {
				return fmt.Errorf("the prefix %q has no bucket %q", prefix, locksBucket)
			}
			return locks.ForEach(func(id, raw []byte) error {
				_, _, err := decode(string(id), raw, 0)
				return err
			})
		})
		if err != nil {
			return err
		}
		for problem := range tx.Check() { // to its end, which is that of its goroutine
			err = cmp.Or(err, problem)
		}
		return err
	})
}

// read gives each record of the prefix, and returns the boot that they are of. raw
// is valid during the call only.
func (f *file) read(each func(id string, raw []byte) error) (boot string, err error) {
	err = guarded(func() error {
		return f.db.View(func(tx *bbolt.Tx) error {
			p := tx.Bucket([]byte(rootBucket)).Bucket([]byte(f.prefix))
			if p == nil {
				return nil
			}
			boot = string(p.Get([]byte(bootKey)))
			return p.Bucket([]byte(locksBucket)).ForEach(func(id, raw []byte) error { return each(string(id), raw) })
		})
	})
	return boot, err
}

// begin stamps the prefix with the boot, together with the records as they are in
// it.
func (f *file) begin(boot string, values map[string][]byte) error {
	return guarded(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error {
			p, err := tx.Bucket([]byte(rootBucket)).CreateBucketIfNotExists([]byte(f.prefix))
			if err != nil {
				return err
			}
			if err := p.Put([]byte(bootKey), []byte(boot)); err != nil {
				return err
			}
			locks, err := p.CreateBucketIfNotExists([]byte(locksBucket))
			if err != nil {
				return err
			}
			return put(locks, values)
		})
	})
}

// write is disk.write.
func (f *file) write(values map[string][]byte) error {
	id, committing := 0, false
	err := guarded(func() error {
		tx, err := f.db.Begin(true)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // nothing, after a commit
		if err := put(tx.Bucket([]byte(rootBucket)).Bucket([]byte(f.prefix)).Bucket([]byte(locksBucket)), values); err != nil {
			return err
		}
		id, committing = tx.ID(), true
		return tx.Commit()
	})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("embedded: writing %s: %w", f.db.Path(), err)
	if !committing {
		return err
	}
	// The last thing that a commit writes is the page that names it. Without
	// that page the file is what it was; with it, only the disk knows.
	visible := 0
	if read := guarded(func() error {
		return f.db.View(func(tx *bbolt.Tx) error { visible = tx.ID(); return nil })
	}); read != nil || visible >= id {
		return fmt.Errorf("%w: %w", errUncertain, err)
	}
	return err
}

// put writes the records in the order of their ids, as the pages have them.
func put(locks *bbolt.Bucket, values map[string][]byte) error {
	for _, id := range slices.Sorted(maps.Keys(values)) {
		var err error
		if raw := values[id]; raw != nil {
			err = locks.Put([]byte(id), raw)
		} else {
			err = locks.Delete([]byte(id))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
