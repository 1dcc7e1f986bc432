package redis

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
	"strconv"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Schemes are the URL schemes of this driver.
var Schemes = []string{"redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}

// parameters are those of the URL's query, each with what it sets.
var parameters = map[string]func(p *parsed, value string) error{
	"prefix":         func(p *parsed, v string) error { p.o.Prefix = v; return nil },
	"timeout":        func(p *parsed, v string) error { return duration(&p.o.Timeout, v) },
	"poll":           func(p *parsed, v string) error { return duration(&p.o.Poll, v) },
	"retention":      func(p *parsed, v string) error { return duration(&p.o.Retention, v) },
	"max_ttl":        func(p *parsed, v string) error { return duration(&p.o.MaxTTL, v) },
	"new":            func(p *parsed, v string) error { return truth(&p.o.New, v) },
	"db":             func(p *parsed, v string) error { return natural(&p.o.Client.DB, v) },
	"wait_replicas":  func(p *parsed, v string) error { return natural(&p.o.WaitReplicas, v) },
	"allow_eviction": func(p *parsed, v string) error { return truth(&p.o.AllowEviction, v) },
	"username":       func(p *parsed, v string) error { p.o.Client.Username = v; return nil },
	"password_file":  func(p *parsed, v string) error { return secret(&p.o.Client.Password, v) },
	"ca_file":        func(p *parsed, v string) error { p.tls.ca = v; return nil },
	"cert_file":      func(p *parsed, v string) error { p.tls.cert = v; return nil },
	"key_file":       func(p *parsed, v string) error { p.tls.key = v; return nil },

	"sentinel_username":      func(p *parsed, v string) error { p.sentinel.Username = v; return nil },
	"sentinel_password_file": func(p *parsed, v string) error { return secret(&p.sentinel.Password, v) },
}

// parsed is what a URL says.
type parsed struct {
	o        Options
	sentinel Sentinel
	tls      tlsFiles
}

// known lists the parameters.
func known() string { return strings.Join(slices.Sorted(maps.Keys(parameters)), ", ") }

func natural(into *int, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil {
		return fmt.Errorf("%q is no number", v)
	}
	if n < 0 {
		return fmt.Errorf("%d is negative", n)
	}
	*into = n
	return nil
}

func truth(into *bool, v string) error {
	switch v {
	case "1", "true":
		*into = true
	case "0", "false":
		*into = false
	default:
		return fmt.Errorf("%q is neither 1 nor 0", v)
	}
	return nil
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

// OpenURL opens a URL, in which rediss instead of redis means TLS:
//
//	redis://[user:password@]host[:port][/db]
//	redis+unix:///path
//	redis+sentinel://[user:password@]sentinel[:port],.../primary
//	redis+cluster://[user:password@]node[:port],...
//
// Of several hosts, the last one has a port if any has. Its parameters are prefix,
// timeout, poll, retention, max_ttl, new, db, username, password_file, ca_file,
// cert_file, key_file, allow_eviction, wait_replicas, sentinel_username and
// sentinel_password_file.
func OpenURL(_ context.Context, u *url.URL, env driver.Env) (driver.Driver, error) {
	p := parsed{o: Options{Clock: env.Clock, Logger: env.Logger}}
	if err := p.query(u); err != nil {
		return nil, err
	}
	if u.User != nil {
		p.o.Client.Username = u.User.Username()
		if password, ok := u.User.Password(); ok {
			p.o.Client.Password = password
		}
	}
	plain, secure := strings.CutPrefix(u.Scheme, "rediss")
	shape := strings.TrimPrefix(plain, "redis")
	if shape != "+sentinel" && (p.sentinel.Username != "" || p.sentinel.Password != "") {
		return nil, fmt.Errorf("redis: %w: sentinel_username and sentinel_password_file need redis+sentinel://", driver.ErrInvalid)
	}
	host := ""
	var err error
	switch shape {
	case "+unix":
		err = p.unix(u)
	case "+sentinel":
		err = p.sentinels(u)
	case "+cluster":
		err = p.cluster(u)
	default:
		host, err = p.server(u)
	}
	if err != nil {
		return nil, err
	}
	if err := p.tls.apply(&p.o, secure, host); err != nil {
		return nil, err
	}
	return New(p.o)
}

func (p *parsed) query(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("redis: %w: the query cannot be parsed; known parameters are %s", driver.ErrInvalid, known())
	}
	for name, values := range query {
		set := parameters[name]
		if set == nil {
			return fmt.Errorf("redis: %w: unknown parameter %q; known are %s", driver.ErrInvalid, name, known())
		}
		if err := set(p, values[len(values)-1]); err != nil {
			return fmt.Errorf("redis: parameter %s: %w: %w", name, driver.ErrInvalid, err)
		}
	}
	return nil
}

func (p *parsed) unix(u *url.URL) error {
	p.o.Client.Network, p.o.Client.Addr = "unix", u.Path
	if u.Host != "" || u.Path == "" {
		return fmt.Errorf("redis: %w: want redis+unix:///path/of/the/socket", driver.ErrInvalid)
	}
	return nil
}

func (p *parsed) server(u *url.URL) (host string, err error) {
	if strings.Contains(u.Host, ",") {
		return "", fmt.Errorf("redis: %w: several hosts need redis+sentinel:// or redis+cluster://", driver.ErrInvalid)
	}
	addrs, err := addresses(u, "6379")
	if err != nil {
		return "", err
	}
	p.o.Client.Addr = addrs[0]
	if path := strings.Trim(u.Path, "/"); path != "" {
		if err := natural(&p.o.Client.DB, path); err != nil {
			return "", fmt.Errorf("redis: %w: the path %q is not a database number", driver.ErrInvalid, u.Path)
		}
	}
	return u.Hostname(), nil
}

func (p *parsed) sentinels(u *url.URL) (err error) {
	if p.sentinel.Addrs, err = addresses(u, "26379"); err != nil {
		return err
	}
	p.sentinel.Primary = strings.TrimPrefix(u.Path, "/")
	if p.sentinel.Primary == "" || strings.Contains(p.sentinel.Primary, "/") {
		return fmt.Errorf("redis: %w: the path %q is not the name of a primary: want redis+sentinel://h1,h2,h3/name, and a database as the parameter db", driver.ErrInvalid, u.Path)
	}
	p.o.Sentinel = &p.sentinel
	return nil
}

func (p *parsed) cluster(u *url.URL) (err error) {
	if p.o.Cluster, err = addresses(u, "6379"); err != nil {
		return err
	}
	if strings.Trim(u.Path, "/") != "" || p.o.Client.DB != 0 {
		return fmt.Errorf("redis: %w: a Cluster has no databases: want redis+cluster://h1,h2,h3", driver.ErrInvalid)
	}
	return nil
}

// addresses are the URL's hosts with their ports.
func addresses(u *url.URL, port string) (addrs []string, err error) {
	for part := range strings.SplitSeq(u.Host, ",") {
		one := url.URL{Host: part}
		host, p := one.Hostname(), one.Port()
		if host == "" || strings.Contains(host, ":") != strings.HasPrefix(part, "[") {
			return nil, fmt.Errorf("redis: %w: the URL names no host where one is needed", driver.ErrInvalid)
		}
		if p == "" {
			p = port
		}
		addrs = append(addrs, net.JoinHostPort(host, p))
	}
	return addrs, nil
}

func (f tlsFiles) apply(o *Options, secure bool, host string) error {
	if !secure {
		if f != (tlsFiles{}) {
			return fmt.Errorf("redis: %w: ca_file, cert_file and key_file need rediss://, rediss+sentinel:// or rediss+cluster://", driver.ErrInvalid)
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
