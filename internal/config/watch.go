package config

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Watcher finds out whether files have changed, by their identities: also when
// one is replaced, or a link on the way to it, as Kubernetes does.
type Watcher struct {
	files []string
	// seen is the identity that was acted upon, last the latest.
	seen, last string
}

// Watch looks at the files now.
func Watch(files []string) *Watcher {
	w := &Watcher{files: files}
	w.Seen()
	return w
}

// Seen says that what the files have now is known.
func (w *Watcher) Seen() { w.seen = w.identity(); w.last = w.seen }

// Follow watches other files from now on.
func (w *Watcher) Follow(files []string) {
	if strings.Join(files, "\x00") != strings.Join(w.files, "\x00") {
		w.files = files
		w.Seen()
	}
}

// Changed reports whether the files have changed since Seen, and not since the
// last call: who writes a file has finished with it.
func (w *Watcher) Changed() bool {
	now := w.identity()
	settled := now == w.last
	w.last = now
	return settled && now != w.seen
}

func (w *Watcher) identity() string {
	var b strings.Builder
	for _, f := range w.files {
		info, err := os.Stat(f)
		if err != nil {
			fmt.Fprintf(&b, "%s: none\n", f)
			continue
		}
		var dev, ino uint64
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			dev, ino = uint64(s.Dev), s.Ino //nolint:unconvert // its type is the system's
		}
		fmt.Fprintf(&b, "%s: %d %d %d %d\n", f, dev, ino, info.Size(), info.ModTime().UnixNano())
	}
	return b.String()
}
