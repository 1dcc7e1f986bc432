package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Schemes are the URL schemes of this driver.
var Schemes = []string{"redis", "rediss", "redis+unix"}

// parameters are those of the URL's query, each with what it sets.
var parameters = map[string]func(o *Options, t *tlsFiles, value string) error{
	"prefix":        func(o *Options, _ *tlsFiles, v string) error { o.Prefix = v; return nil },
	"timeout":       func(o *Options, _ *tlsFiles, v string) error { return duration(&o.Timeout, v) },
	"poll":          func(o *Options, _ *tlsFiles, v string) error { return duration(&o.Poll, v) },
	"retention":     func(o *Options, _ *tlsFiles, v string) error { return duration(&o.Retention, v) },
	"db":            func(o *Options, _ *tlsFiles, v string) error { return database(o, v) },
	"username":      func(o *Options, _ *tlsFiles, v string) error { o.Client.Username = v; return nil },
	"password_file": func(o *Options, _ *tlsFiles, v string) error { return secret(&o.Client.Password, v) },
	"ca_file":       func(_ *Options, t *tlsFiles, v string) error { t.ca = v; return nil },
	"cert_file":     func(_ *Options, t *tlsFiles, v string) error { t.cert = v; return nil },
	"key_file":      func(_ *Options, t *tlsFiles, v string) error { t.key = v; return nil },
}

// known lists the parameters.
func known() string { return strings.Join(slices.Sorted(maps.Keys(parameters)), ", ") }

func database(o *Options, v string) error {
	n, err := strconv.Atoi(v)
	if err == nil && n < 0 {
		err = fmt.Errorf("%d is negative", n)
	}
	o.Client.DB = n
	return err
}

type tlsFiles struct{ ca, cert, key string }

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

// OpenURL opens redis://[user:password@]host[:port][/db], rediss:// (TLS) or
// redis+unix:///path, with the parameters prefix, timeout, poll, retention, db,
// username, password_file, ca_file, cert_file and key_file.
func OpenURL(_ context.Context, u *url.URL, env driver.Env) (driver.Driver, error) {
	o := Options{Clock: env.Clock, Logf: env.Logf}
	var files tlsFiles
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("redis: %w: the query cannot be parsed; known parameters are %s", driver.ErrInvalid, known())
	}
	for name, values := range query {
		set := parameters[name]
		if set == nil {
			return nil, fmt.Errorf("redis: %w: unknown parameter %q; known are %s", driver.ErrInvalid, name, known())
		}
		if err := set(&o, &files, values[len(values)-1]); err != nil {
			return nil, fmt.Errorf("redis: parameter %s: %w: %w", name, driver.ErrInvalid, err)
		}
	}
	if u.User != nil {
		o.Client.Username = u.User.Username()
		if password, ok := u.User.Password(); ok {
			o.Client.Password = password
		}
	}
	if u.Scheme == "redis+unix" {
		o.Client.Network, o.Client.Addr = "unix", u.Path
		if u.Host != "" || u.Path == "" {
			return nil, fmt.Errorf("redis: %w: want redis+unix:///path/of/the/socket", driver.ErrInvalid)
		}
		if err := files.apply(&o, false, ""); err != nil {
			return nil, err
		}
		return New(o)
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		return nil, fmt.Errorf("redis: %w: the URL names no host", driver.ErrInvalid)
	}
	if port == "" {
		port = "6379"
	}
	o.Client.Addr = host + ":" + port
	if strings.Contains(host, ":") {
		o.Client.Addr = "[" + host + "]:" + port
	}
	if path := strings.Trim(u.Path, "/"); path != "" {
		if err := database(&o, path); err != nil {
			return nil, fmt.Errorf("redis: %w: the path %q is not a database number", driver.ErrInvalid, u.Path)
		}
	}
	if err := files.apply(&o, u.Scheme == "rediss", host); err != nil {
		return nil, err
	}
	return New(o)
}

func (f tlsFiles) apply(o *Options, secure bool, host string) error {
	if !secure {
		if f != (tlsFiles{}) {
			return fmt.Errorf("redis: %w: ca_file, cert_file and key_file need rediss://", driver.ErrInvalid)
		}
		return nil
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		raw, err := os.ReadFile(f.ca)
		if err != nil {
			return fmt.Errorf("redis: ca_file: %w: %w", driver.ErrInvalid, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(raw) {
			return fmt.Errorf("redis: ca_file %s: %w: no certificate in it", f.ca, driver.ErrInvalid)
		}
	}
	if (f.cert == "") != (f.key == "") {
		return fmt.Errorf("redis: %w: cert_file and key_file belong together", driver.ErrInvalid)
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return fmt.Errorf("redis: cert_file and key_file: %w: %w", driver.ErrInvalid, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	o.Client.TLSConfig = config
	return nil
}
