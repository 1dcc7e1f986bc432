// Package logging makes the daemon's logger.
//
// It guarantees that one event is one line, whatever text it carries, and that
// what looks like a secret is not in it: the password of a URL, 128 random bits
// in hexadecimal (lease and request ids are made of those), values under a key
// that names a secret, and the secrets that were registered.
//
// It does not guarantee that a secret which a caller chose is recognised: code
// does not log request ids in the first place.
//
// Use [New]; packages take its *slog.Logger, and keys from backend/driver.
package logging

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// The formats.
const (
	JSON = "json"
	Text = "text"
)

// Options configure a logger.
type Options struct {
	// Level is debug, info, warn or error; empty means info.
	Level string
	// Format is JSON or Text; empty means JSON unless the writer is a
	// terminal.
	Format string
	// Secrets must not appear in any line. nil means none beside what looks
	// like one.
	Secrets *Secrets
}

// New returns a logger that writes lines to w.
func New(w io.Writer, o Options) (*slog.Logger, error) {
	level, ok := map[string]slog.Level{
		"": slog.LevelInfo, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[o.Level]
	if !ok {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", o.Level)
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: newRedaction(o.Secrets).attribute}
	switch {
	case o.Format == JSON, o.Format == "" && !terminal(w):
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case o.Format == Text, o.Format == "":
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return nil, fmt.Errorf("log format %q: want json or text", o.Format)
}

// terminal reports whether somebody reads what is written.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && !strings.HasSuffix(f.Name(), os.DevNull)
}
