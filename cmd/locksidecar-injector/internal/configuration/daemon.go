package configuration

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
	"github.com/locksidecar/locksidecar/internal/backendurl"
	"github.com/locksidecar/locksidecar/internal/config"
)

// maxDaemon bounds the daemon's configuration: it goes into an annotation, of
// which a pod may have 256 KiB in all.
const maxDaemon = 128 << 10

// daemon refuses a configuration that the daemon would not start with.
func (f *File) daemon(*Configuration) error {
	if f.Configuration == "" {
		return fmt.Errorf("configuration is missing: the daemon's own file, such as %q", "backends: {main: {url: \"redis://redis.locks:6379\"}}")
	}
	if len(f.Configuration) > maxDaemon {
		return fmt.Errorf("configuration has %d bytes; want at most %d, since it goes into an annotation of each pod", len(f.Configuration), maxDaemon)
	}
	parsed, err := config.Parse([]byte(f.Configuration))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	for name, b := range parsed.Backends {
		if b.URLFile != "" && b.URL == "" {
			// A file of a Secret of the pod's namespace: it cannot be read here.
			b.URL, b.URLFile = "embedded:", ""
			parsed.Backends[name] = b
		}
	}
	c, err := parsed.Compile("", config.Overrides{})
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	for _, b := range c.Backends {
		switch err := backendurl.Check(b.URL); {
		case errors.Is(err, backendurl.ErrPassword):
			return fmt.Errorf("configuration: the backend %q: %w, which whoever may read pods could read: "+
				"put it into a Secret, name that in secrets, and use password_file=%s/…", b.Name, err, inject.SecretsDir)
		case err != nil:
			return fmt.Errorf("configuration: the backend %q: %w", b.Name, err)
		}
		u, err := url.Parse(b.URL)
		if err != nil {
			return fmt.Errorf("configuration: the backend %q: its URL cannot be read", b.Name)
		}
		if u.Scheme == "embedded" && u.Path != "" && !writable(u.Path) {
			return fmt.Errorf("configuration: the backend %q: %w", b.Name, errWritable)
		}
	}
	return audit(c.Sinks.Audit)
}

var errWritable = fmt.Errorf("the sidecar's files are read-only: want a file in %s, which ends with the pod", inject.SocketDir)

// writable says whether the sidecar may write a file.
func writable(file string) bool {
	return strings.HasPrefix(path.Clean(file), inject.SocketDir+"/")
}
