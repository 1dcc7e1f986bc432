package dynamodb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Schemes are the URL schemes of this driver.
var Schemes = []string{"dynamodb"}

// parsed is what a URL says.
type parsed struct {
	o                Options
	region           string
	credentials      string
	profile          string
	ca               string
	cert, privateKey string
}

// parameters are those of the URL's query, each with what it sets.
var parameters = map[string]func(p *parsed, value string) error{
	"region":           func(p *parsed, v string) error { p.region = v; return nil },
	"endpoint":         func(p *parsed, v string) error { return endpoint(&p.o.Endpoint, v) },
	"create":           func(p *parsed, v string) error { return truth(&p.o.Create, v) },
	"credentials_file": func(p *parsed, v string) error { p.credentials = v; return readable(v) },
	"profile":          func(p *parsed, v string) error { p.profile = v; return nil },
	"prefix":           func(p *parsed, v string) error { p.o.Prefix = v; return nil },
	"timeout":          func(p *parsed, v string) error { return duration(&p.o.Timeout, v) },
	"poll":             func(p *parsed, v string) error { return duration(&p.o.Poll, v) },
	"ca_file":          func(p *parsed, v string) error { p.ca = v; return nil },
	"cert_file":        func(p *parsed, v string) error { p.cert = v; return nil },
	"key_file":         func(p *parsed, v string) error { p.privateKey = v; return nil },
}

// known lists the parameters.
func known() string { return strings.Join(slices.Sorted(maps.Keys(parameters)), ", ") }

func endpoint(into *string, v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return fmt.Errorf("want http://host:port or https://host:port, without a user") // nothing of it is shown
	}
	*into = v
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

func duration(into *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%v is not positive", d)
	}
	*into = d
	return err
}

func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

// OpenURL opens dynamodb://table. Its parameters are region, endpoint, create,
// credentials_file, profile, prefix, timeout, poll, ca_file, cert_file and
// key_file. Region and credentials are found as the SDK finds them, unless they are
// given; credentials_file has the form of ~/.aws/credentials.
func OpenURL(ctx context.Context, u *url.URL, env driver.Env) (driver.Driver, error) {
	p := parsed{o: Options{Clock: env.Clock, Logger: env.Logger}}
	if u.User != nil {
		return nil, fmt.Errorf("dynamodb: %w: the URL has no user: credentials are given by credentials_file or found as the SDK finds them", driver.ErrInvalid)
	}
	p.o.Table = u.Host
	if u.Host == "" || u.Opaque != "" || strings.Trim(u.Path, "/") != "" || strings.Contains(u.Host, ":") {
		return nil, fmt.Errorf("dynamodb: %w: want dynamodb://table", driver.ErrInvalid)
	}
	if err := p.query(u); err != nil {
		return nil, err
	}
	var load []func(*config.LoadOptions) error
	if p.region != "" {
		load = append(load, config.WithRegion(p.region))
	}
	if p.profile != "" {
		load = append(load, config.WithSharedConfigProfile(p.profile))
	}
	if p.credentials != "" {
		load = append(load, config.WithSharedCredentialsFiles([]string{p.credentials}), config.WithSharedConfigFiles(nil))
		if p.profile == "" {
			load = append(load, config.WithSharedConfigProfile("default")) // the environment's credentials do not come first
		}
	}
	var err error
	if p.o.AWS, err = config.LoadDefaultConfig(ctx, load...); err != nil {
		return nil, fmt.Errorf("dynamodb: the SDK's configuration: %w: %w", driver.ErrInvalid, err)
	}
	if p.o.TLS, err = p.tls(); err != nil {
		return nil, err
	}
	return New(p.o)
}

func (p *parsed) query(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("dynamodb: %w: the query cannot be parsed; known parameters are %s", driver.ErrInvalid, known())
	}
	for name, values := range query {
		set := parameters[name]
		if set == nil {
			return fmt.Errorf("dynamodb: %w: unknown parameter %q; known are %s", driver.ErrInvalid, name, known())
		}
		if err := set(p, values[len(values)-1]); err != nil {
			return fmt.Errorf("dynamodb: parameter %s: %w: %w", name, driver.ErrInvalid, err)
		}
	}
	return nil
}

// tls is made of the URL's files, nil without them.
func (p *parsed) tls() (*tls.Config, error) {
	if p.ca == "" && p.cert == "" && p.privateKey == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.ca != "" {
		raw, err := os.ReadFile(p.ca)
		if err != nil {
			return nil, fmt.Errorf("dynamodb: ca_file: %w: %w", driver.ErrInvalid, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("dynamodb: ca_file %s: %w: no certificate in it", p.ca, driver.ErrInvalid)
		}
	}
	if (p.cert == "") != (p.privateKey == "") {
		return nil, fmt.Errorf("dynamodb: %w: cert_file and key_file belong together", driver.ErrInvalid)
	}
	if p.cert != "" {
		pair, err := tls.LoadX509KeyPair(p.cert, p.privateKey)
		if err != nil {
			return nil, fmt.Errorf("dynamodb: cert_file and key_file: %w: %w", driver.ErrInvalid, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
