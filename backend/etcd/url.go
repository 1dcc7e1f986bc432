package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Schemes are the URL schemes of this driver.
var Schemes = []string{"etcd", "etcds"}

// parameters are those of the URL's query, each with what it sets.
var parameters = map[string]func(p *parsed, value string) error{
	"prefix":        func(p *parsed, v string) error { p.o.Prefix = v; return nil },
	"timeout":       func(p *parsed, v string) error { return duration(&p.o.Timeout, v) },
	"poll":          func(p *parsed, v string) error { return duration(&p.o.Poll, v) },
	"retention":     func(p *parsed, v string) error { return duration(&p.o.Retention, v) },
	"min_ttl":       func(p *parsed, v string) error { return duration(&p.o.MinTTL, v) },
	"max_ttl":       func(p *parsed, v string) error { return duration(&p.o.MaxTTL, v) },
	"username":      func(p *parsed, v string) error { p.o.Username = v; return nil },
	"password_file": func(p *parsed, v string) error { return secret(&p.o.Password, v) },
	"ca_file":       func(p *parsed, v string) error { p.tls.ca = v; return nil },
	"cert_file":     func(p *parsed, v string) error { p.tls.cert = v; return nil },
	"key_file":      func(p *parsed, v string) error { p.tls.key = v; return nil },
}

// parsed is what a URL says.
type parsed struct {
	o   Options
	tls tlsFiles
}

type tlsFiles struct{ ca, cert, key string }

// known lists the parameters.
func known() string { return strings.Join(slices.Sorted(maps.Keys(parameters)), ", ") }

func duration(into *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%v is not positive", d)
	}
	*into = d
	return err
}

func secret(into *string, file string) error {
	raw, err := os.ReadFile(file)
	*into = strings.TrimRight(string(raw), "\r\n")
	return err
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
	if err := p.query(u); err != nil {
		return nil, err
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
	if p.o.Endpoints, err = addresses(u); err != nil {
		return nil, err
	}
	if err := p.tls.apply(&p.o, u.Scheme == "etcds"); err != nil {
		return nil, err
	}
	return New(p.o)
}

func (p *parsed) query(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("etcd: %w: the query cannot be parsed; known parameters are %s", driver.ErrInvalid, known())
	}
	for name, values := range query {
		set := parameters[name]
		if set == nil {
			return fmt.Errorf("etcd: %w: unknown parameter %q; known are %s", driver.ErrInvalid, name, known())
		}
		if err := set(p, values[len(values)-1]); err != nil {
			return fmt.Errorf("etcd: parameter %s: %w: %w", name, driver.ErrInvalid, err)
		}
	}
	return nil
}

// addresses are the URL's hosts with their ports.
func addresses(u *url.URL) (addrs []string, err error) {
	for part := range strings.SplitSeq(u.Host, ",") {
		one := url.URL{Host: part}
		host, port := one.Hostname(), one.Port()
		if host == "" || strings.Contains(host, ":") != strings.HasPrefix(part, "[") {
			return nil, fmt.Errorf("etcd: %w: the URL names no host where one is needed", driver.ErrInvalid)
		}
		if port == "" {
			port = "2379"
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	return addrs, nil
}

func (f tlsFiles) apply(o *Options, secure bool) error {
	if !secure && f == (tlsFiles{}) {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		raw, err := os.ReadFile(f.ca)
		if err != nil {
			return fmt.Errorf("etcd: ca_file: %w: %w", driver.ErrInvalid, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			return fmt.Errorf("etcd: ca_file %s: %w: no certificate in it", f.ca, driver.ErrInvalid)
		}
	}
	if (f.cert == "") != (f.key == "") {
		return fmt.Errorf("etcd: %w: cert_file and key_file belong together", driver.ErrInvalid)
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return fmt.Errorf("etcd: cert_file and key_file: %w: %w", driver.ErrInvalid, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	o.TLS = config
	return nil
}
