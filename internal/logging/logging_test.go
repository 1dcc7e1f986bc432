package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/logging"
)

func logged(t *testing.T, o logging.Options, do func(*slog.Logger)) string {
	t.Helper()
	var out bytes.Buffer
	l, err := logging.New(&out, o)
	if err != nil {
		t.Fatal(err)
	}
	do(l)
	return out.String()
}

// Whatever text an event carries, it is one line, and one event.
func TestOneEventIsOneLine(t *testing.T) {
	nasty := "a\nlevel=ERROR msg=\"forged\"\r\n{\"msg\":\"forged\"}\x1b[2J\x00\u2028\xff"
	for _, format := range []string{logging.JSON, logging.Text} {
		out := logged(t, logging.Options{Format: format}, func(l *slog.Logger) {
			l.Info(nasty, nasty, nasty, "error", errors.New(nasty), "owners", []string{nasty}, slog.Group("group", "x", nasty))
		})
		if strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") || strings.ContainsAny(out, "\r\x1b\x00") {
			t.Errorf("%s: not one line: %q", format, out)
		}
		if format == logging.JSON && !json.Valid([]byte(out)) {
			t.Errorf("not JSON: %s", out)
		}
	}
}

func TestSecretsAreHidden(t *testing.T) {
	const lease = "00112233445566778899aabbccddeeff"
	secrets := []string{"hunter2", "p/w:d", lease, "s3cret=", "chosen-by-a-caller", "q%22ote", `sl\\ash`}
	var registered logging.Secrets
	registered.Add("s3cret=")
	registered.Add(`sl\ash`, `q"ote`)
	for _, format := range []string{logging.JSON, logging.Text} {
		out := logged(t, logging.Options{Format: format, Secrets: &registered}, func(l *slog.Logger) {
			l.Warn("cannot reach redis://me:hunter2@db:6379/0 or redis://:p/w:d@db")
			l.Warn("failed", "error", errors.New(`parse "rediss://u:hunter2@[::1": missing ]; see ?password=hunter2&x=1`))
			l.Warn("failed", "error", errors.Join(errors.New("lease "+lease), errors.New("s3cret= and s3cret%3D, q%22ote, sl\\ash")))
			l.Warn("failed", "lease_id", "chosen-by-a-caller", slog.Group("request", "request_id", "chosen-by-a-caller"))
			l.With("url", "redis://me:hunter2@db").WithGroup("g").Warn("failed", "any", struct{ URL string }{"redis://me:hunter2@db"})
		})
		for _, s := range secrets {
			if strings.Contains(out, s) {
				t.Errorf("%s: %q is in the log:\n%s", format, s, out)
			}
		}
		for _, kept := range []string{"db:6379", "redis://me:"} {
			if !strings.Contains(out, kept) {
				t.Errorf("%s: %q is not in the log:\n%s", format, kept, out)
			}
		}
	}
}

func TestLevelsAndFormats(t *testing.T) {
	all := func(l *slog.Logger) {
		l.Debug("d")
		l.Info("i")
		l.Warn("w")
		l.Error("e")
	}
	for level, lines := range map[string]int{"debug": 4, "": 3, "info": 3, "warn": 2, "error": 1} {
		if got := strings.Count(logged(t, logging.Options{Level: level}, all), "\n"); got != lines {
			t.Errorf("level %q: %d lines, want %d", level, got, lines)
		}
	}
	for _, o := range []logging.Options{{Level: "loud"}, {Format: "xml"}} {
		if _, err := logging.New(os.Stderr, o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	if out := logged(t, logging.Options{}, all); !strings.HasPrefix(out, "{") {
		t.Errorf("what is no terminal gets %s", out)
	}
}
