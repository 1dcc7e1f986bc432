package configuration

import (
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/internal/config"
)

// Source is a file that is read again when it changes.
type Source struct {
	path, version string
	watcher       *config.Watcher
	current       atomic.Pointer[Configuration]
	refused       atomic.Pointer[error]
	log           *slog.Logger
}

// Open reads the file, which must be right.
func Open(path, version string, log *slog.Logger) (*Source, error) {
	s := &Source{path: path, version: version, watcher: config.Watch([]string{path}), log: log}
	c, err := Load(path, version)
	if err != nil {
		return nil, err
	}
	s.current.Store(c)
	return s, nil
}

// Current is what is in force.
func (s *Source) Current() *Configuration { return s.current.Load() }

// Refused is why the file as it is now is not in force; nil if it is.
func (s *Source) Refused() error {
	if err := s.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// errRestart is about what is fixed when the process starts.
var errRestart = errors.New("certificates cannot change while the injector runs: restart it, or undo the change")

// Look reads the file if it has changed, and says whether it did so: a file that
// is wrong is told and leaves in force what was. It is for one goroutine, which
// calls it again and again.
func (s *Source) Look() bool {
	if !s.watcher.Changed() {
		return false
	}
	s.watcher.Seen()
	c, err := Load(s.path, s.version)
	if err == nil && c.Certificates != s.Current().Certificates {
		err = errRestart
	}
	if err != nil {
		s.refused.Store(&err)
		s.log.Error("the configuration was refused, what was in force stays so", "error", err)
		return true
	}
	s.refused.Store(nil)
	s.current.Store(c)
	s.log.Info("the configuration was taken over")
	return true
}
