package dynamodb

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/driver/driverurl"
)

// Schemes are the URL schemes of this driver.
var Schemes = []string{"dynamodb"}

// parsed is what a URL says.
type parsed struct {
	o           Options
	region      string
	credentials string
	profile     string
	tls         driverurl.TLSFiles
}

// parameters are those of the URL's query, each with what it sets.
var parameters = driverurl.Parameters[*parsed]{
	"region":           func(p *parsed, v string) error { p.region = v; return nil },
	"endpoint":         func(p *parsed, v string) error { return endpoint(&p.o.Endpoint, v) },
	"create":           func(p *parsed, v string) error { return truth(&p.o.Create, v) },
	"credentials_file": func(p *parsed, v string) error { p.credentials = v; return readable(v) },
	"profile":          func(p *parsed, v string) error { p.profile = v; return nil },
	"prefix":           func(p *parsed, v string) error { p.o.Prefix = v; return nil },
	"timeout":          func(p *parsed, v string) error { return driverurl.Duration(&p.o.Timeout, v) },
	"poll":             func(p *parsed, v string) error { return driverurl.Duration(&p.o.Poll, v) },
	"ca_file":          func(p *parsed, v string) error { p.tls.CA = v; return nil },
	"cert_file":        func(p *parsed, v string) error { p.tls.Cert = v; return nil },
	"key_file":         func(p *parsed, v string) error { p.tls.Key = v; return nil },
}

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
	if err := parameters.Read(u, &p); err != nil {
		return nil, fmt.Errorf("dynamodb: %w", err)
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
	if p.tls != (driverurl.TLSFiles{}) {
		if p.o.TLS, err = p.tls.Config(); err != nil {
			return nil, fmt.Errorf("dynamodb: %w", err)
		}
	}
	return New(p.o)
}
