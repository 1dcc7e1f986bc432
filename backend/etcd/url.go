package etcd

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/driver/driverurl"
)

// Schemes are the URL schemes of this driver.
var Schemes = []string{"etcd", "etcds"}

// parameters are those of the URL's query, each with what it sets.
var parameters = driverurl.Parameters[*parsed]{
	"prefix":        func(p *parsed, v string) error { p.o.Prefix = v; return nil },
	"timeout":       func(p *parsed, v string) error { return driverurl.Duration(&p.o.Timeout, v) },
	"poll":          func(p *parsed, v string) error { return driverurl.Duration(&p.o.Poll, v) },
	"retention":     func(p *parsed, v string) error { return driverurl.Duration(&p.o.Retention, v) },
	"min_ttl":       func(p *parsed, v string) error { return driverurl.Duration(&p.o.MinTTL, v) },
	"max_ttl":       func(p *parsed, v string) error { return driverurl.Duration(&p.o.MaxTTL, v) },
	"username":      func(p *parsed, v string) error { p.o.Username = v; return nil },
	"password_file": func(p *parsed, v string) error { return driverurl.Secret(&p.o.Password, v) },
	"ca_file":       func(p *parsed, v string) error { p.tls.CA = v; return nil },
	"cert_file":     func(p *parsed, v string) error { p.tls.Cert = v; return nil },
	"key_file":      func(p *parsed, v string) error { p.tls.Key = v; return nil },
}

// parsed is what a URL says.
type parsed struct {
	o   Options
	tls driverurl.TLSFiles
}

// OpenURL opens a URL:
//
//	etcd://[user[:password]@]member[:port],...
//	etcds://[user[:password]@]member[:port],...
//
// The second means TLS, and so do ca_file, cert_file and key_file in the first. A
// port that is left out is 2379. Its parameters are prefix, timeout, poll,
// retention, min_ttl, max_ttl, username, password_file, ca_file, cert_file and key_file.
func OpenURL(_ context.Context, u *url.URL, env driver.Env) (driver.Driver, error) {
	p := parsed{o: Options{Clock: env.Clock, Logger: env.Logger}}
	if err := parameters.Read(u, &p); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	if u.User != nil {
		p.o.Username = u.User.Username()
		if password, ok := u.User.Password(); ok {
			p.o.Password = password
		}
	}
	if strings.Trim(u.Path, "/") != "" || u.Opaque != "" {
		return nil, fmt.Errorf("etcd: %w: want etcd://h1,h2,h3 without a path; where the keys are is the parameter prefix", driver.ErrInvalid)
	}
	var err error
	if p.o.Endpoints, err = driverurl.Addresses(u, "2379"); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	if u.Scheme == "etcds" || p.tls != (driverurl.TLSFiles{}) {
		if p.o.TLS, err = p.tls.Config(); err != nil {
			return nil, fmt.Errorf("etcd: %w", err)
		}
	}
	return New(p.o)
}
