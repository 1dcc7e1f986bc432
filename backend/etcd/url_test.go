package etcd

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// file writes a file with the content.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, raw string) (*Store, error) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenURL(t.Context(), u, driver.Env{})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d.(*Store), nil
}

func TestURLsSayWhatTheyMean(t *testing.T) {
	password := file(t, "password", "hunter2\r\n")
	for _, c := range []struct {
		url  string
		want func(o Options) bool
	}{
		{"etcd://h", func(o Options) bool {
			return slices.Equal(o.Endpoints, []string{"h:2379"}) && o.Prefix == "locksidecar" && o.TLS == nil && o.Username == "" &&
				o.Timeout == 2*time.Second && o.MinTTL == 2*time.Second && o.MaxTTL == time.Minute
		}},
		{"etcd://h1,h2,h3:7/", func(o Options) bool {
			return slices.Equal(o.Endpoints, []string{"h1:2379", "h2:2379", "h3:7"})
		}},
		{"etcds://h", func(o Options) bool { return o.TLS != nil && o.TLS.RootCAs == nil }},
		{"etcd://h?prefix=a/b&timeout=3s&poll=5s&retention=1h&min_ttl=3s&max_ttl=30s", func(o Options) bool {
			return o.Prefix == "a/b" && o.Timeout == 3*time.Second && o.Poll == 5*time.Second && o.Retention == time.Hour &&
				o.MinTTL == 3*time.Second && o.MaxTTL == 30*time.Second
		}},
		{"etcd://h?min_ttl=1500ms", func(o Options) bool { return o.MinTTL == 2*time.Second }},
		{"etcd://me@h?password_file=" + password, func(o Options) bool { return o.Username == "me" && o.Password == "hunter2" }},
		{"etcd://h?username=me&password_file=" + password, func(o Options) bool { return o.Username == "me" && o.Password == "hunter2" }},
		{"etcd://me:hunter2@h", func(o Options) bool { return o.Username == "me" && o.Password == "hunter2" }},
	} {
		s, err := open(t, c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
		} else if !c.want(s.o) {
			t.Errorf("%s: %+v", c.url, s.o)
		}
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	junk := file(t, "junk.pem", "hunter2")
	for raw, says := range map[string]string{
		"etcd://":                           "no host",
		"etcd://h1,,h2":                     "no host",
		"etcd://h/db":                       "without a path",
		"etcd:h":                            "etcd://",
		"etcd://h?color=red":                "known are ca_file, cert_file, key_file, max_ttl, min_ttl, password_file, poll, prefix, retention, timeout, username",
		"etcd://h?timeout=fast":             "timeout",
		"etcd://h?timeout=-1s":              "timeout",
		"etcd://h?poll=1h":                  "Options.Poll",
		"etcd://h?min_ttl=61s":              "Options.MinTTL",
		"etcd://h?prefix=/a":                "Options.Prefix",
		"etcd://h?prefix=a/":                "Options.Prefix",
		"etcd://h?prefix=a%20b":             "Options.Prefix",
		"etcd://h?prefix=a/r":               "no part after a slash", // the locks r/… of the prefix a
		"etcd://h?prefix=a/b/q/c":           "no part after a slash",
		"etcd://me@h":                       "belong together",
		"etcd://me:hunter2@h?ca_file=/none": "ca_file",
		"etcds://h?ca_file=" + junk:         "no certificate",
		"etcds://h?cert_file=" + junk:       "belong together",
		"etcds://h?key_file=" + junk + "&cert_file=" + junk: "cert_file and key_file",
		"etcd://h?password_file=/none":                      "password_file",
	} {
		_, err := open(t, raw)
		if !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want it invalid: %s", raw, err, says)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows a secret: %v", raw, err)
		}
	}
}
