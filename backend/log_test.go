package backend_test

import (
	"context"
	"log/slog"
)

// told is a logger that passes each line's message on.
func told(line func(message string)) *slog.Logger { return slog.New(listener{line}) }

type listener struct{ line func(message string) }

func (listener) Enabled(context.Context, slog.Level) bool { return true }

func (l listener) Handle(_ context.Context, r slog.Record) error {
	l.line(r.Message)
	return nil
}

func (l listener) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l listener) WithGroup(string) slog.Handler { return l }
