package auditlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// mode is that of a new file: who waited for which lock is not everybody's
// business.
const mode = 0o600

// file is the log on the disk.
type file struct {
	path string

	mu   sync.Mutex
	f    *os.File
	size int64
	// broken: a part of a line stands at the end.
	broken   bool
	maxBytes int64
	keep     int

	wishes wishes
}

func openFile(path string, maxBytes int64, keep int) (*file, error) {
	l := &file{path: path, maxBytes: maxBytes, keep: keep}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// open opens what the path names, instead of what is open. The mutex is held.
func (l *file) open() error {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, mode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is no regular file", l.path)
	default:
		err = lock(f)
	}
	broken := false
	if err == nil && info.Size() > 0 {
		var last [1]byte
		_, err = f.ReadAt(last[:], info.Size()-1)
		broken = last[0] != '\n'
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if l.f != nil {
		_ = l.f.Close()
	}
	l.f, l.size, l.broken = f, info.Size(), broken
	return nil
}

// write appends lines: all of them, or none.
func (l *file) write(lines []byte) error {
	defer l.settle() // what was wished for meanwhile
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return fs.ErrClosed
	}
	if l.size > 0 && l.size+int64(len(lines)) > l.maxBytes {
		if err := l.rotate(); err != nil {
			return fmt.Errorf("rotation: %w", err)
		}
	}
	if l.broken { // what a killed process left
		lines = append([]byte{'\n'}, lines...)
	}
	n, err := l.f.Write(lines)
	if err != nil && n > 0 {
		if taken := l.f.Truncate(l.size); taken != nil {
			l.size, l.broken = l.size+int64(n), true
			return errors.Join(err, taken)
		}
	}
	if err == nil {
		l.size, l.broken = l.size+int64(n), false
	}
	return err
}

// rotate makes the file the first of the older ones and begins a new one. Each
// step is a rename, so that whenever it is cut off no line is lost. The mutex is
// held.
func (l *file) rotate() error {
	mine, err := l.f.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(l.path); err == nil && os.SameFile(mine, there) {
		for i := l.keep; i > 0; i-- { // the oldest is replaced
			from := l.path
			if i > 1 {
				from = piece(l.path, i-1)
			}
			if err := os.Rename(from, piece(l.path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := l.trim(); err != nil {
			return err
		}
	}
	return l.open()
}

// trim removes the pieces beyond those that are kept, which there are after keep was
// lowered: they would be older than a gap. Only those that follow without one are
// this log's. The oldest goes first. The mutex is held.
func (l *file) trim() error {
	last := l.keep
	for {
		if _, err := os.Lstat(piece(l.path, last+1)); err != nil {
			break
		}
		last++
	}
	for ; last > l.keep; last-- {
		if err := os.Remove(piece(l.path, last)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func piece(path string, n int) string { return fmt.Sprintf("%s.%d", path, n) }

func (l *file) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}
