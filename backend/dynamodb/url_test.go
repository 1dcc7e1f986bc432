package dynamodb

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

func openURL(t testing.TB, raw string) (*Store, error) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenURL(t.Context(), u, driver.Env{})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(*Store), nil
}

func TestURL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = hunter2\n[other]\naws_access_key_id = b\naws_secret_access_key = hunter3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := openURL(t, "dynamodb://locks?region=eu-west-1&endpoint=http://127.0.0.1:1&create=1&prefix=p&timeout=3s&poll=4s&credentials_file="+file+"&profile=other")
	if err != nil {
		t.Fatal(err)
	}
	o := s.o
	if o.Table != "locks" || o.AWS.Region != "eu-west-1" || o.Endpoint != "http://127.0.0.1:1" || !o.Create || o.Prefix != "p" || o.Timeout != 3*time.Second || o.Poll != 4*time.Second {
		t.Errorf("options %+v", o)
	}
	if c, err := o.AWS.Credentials.Retrieve(t.Context()); err != nil || c.AccessKeyID != "b" || c.SecretAccessKey != "hunter3" {
		t.Errorf("credentials of %s, %v", c.AccessKeyID, err)
	}
	for raw, says := range map[string]string{
		"dynamodb://locks?region=x&nope=1":                       "unknown parameter \"nope\"; known are ca_file, cert_file, create, credentials_file, endpoint, key_file, poll, prefix, profile, region, timeout",
		"dynamodb://?region=x":                                   "want dynamodb://table",
		"dynamodb://locks/more?region=x":                         "want dynamodb://table",
		"dynamodb://a:hunter2@locks?region=x":                    "credentials_file",
		"dynamodb://locks?region=x&create=maybe":                 "create",
		"dynamodb://locks?region=x&timeout=0s":                   "timeout",
		"dynamodb://locks?region=x&poll=6m":                      "Poll",
		"dynamodb://locks?region=x&endpoint=http://a:hunter2@h/": "endpoint",
		"dynamodb://locks?region=x&endpoint=ftp://h/":            "endpoint",
		"dynamodb://locks?region=x&credentials_file=/no/such":    "credentials_file",
		"dynamodb://locks?region=x&ca_file=" + file:              "no certificate",
		"dynamodb://locks?region=x&cert_file=" + file:            "belong together",
		"dynamodb://locks?region=x&prefix=a%20b":                 "Prefix",
		"dynamodb://locks?region=x&prefix=a:l:x":                 "without spaces and colons", // the lock x:l:y of the prefix a
		"dynamodb://locks?%zz":                                   "known parameters",
	} {
		_, err := openURL(t, raw)
		if !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want it to say %q and nothing secret", raw, err, says)
		}
	}
}

// No secret is in an error, in the log, or in what is told of the table.
func TestSecretsAreInNoError(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	s, err := openURL(t, e.URLAt("http://127.0.0.1:1", table1, "timeout=1s"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Acquire(t.Context(), request("a", "one"))
	if !errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrIndeterminate) || strings.Contains(err.Error(), testenv.DynamoSecret) {
		t.Errorf("a store that is not there: %v", err)
	}
	s, err = openURL(t, e.URL(table1))
	if err != nil {
		t.Fatal(err)
	}
	granted(t, s, request("a", "one"))
	for _, d := range s.Describe() {
		if strings.Contains(strings.Join([]string{d.Address, d.Version, d.Persistence}, " "), testenv.DynamoSecret) {
			t.Errorf("described %+v", d)
		}
	}
}

// Without credentials nothing is sent.
func TestWithoutCredentialsNothingIsDone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(file, []byte("[default]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := testenv.StartDynamoT(t)
	o := options(e, e.Endpoint())
	o.AWS.Credentials = failing{}
	s := open(t, o)
	if _, err := s.Acquire(t.Context(), request("a", "one")); !errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrIndeterminate) {
		t.Errorf("without credentials: %v", err)
	}
}
