package logging

import (
	"bytes"
	"io"
	"log/slog"

	"google.golang.org/grpc/grpclog"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Libraries makes what libraries write to the process's own log a line of l. It
// is called once, before they are used.
func Libraries(l *slog.Logger) {
	slog.SetDefault(l) // and with it the log of package log
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, lines{l, "grpc"}))
}

// lines makes each text a line.
type lines struct {
	l      *slog.Logger
	source string
}

func (w lines) Write(p []byte) (int, error) {
	w.l.Error(string(bytes.TrimSpace(p)), driver.LogSource, w.source)
	return len(p), nil
}
