package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

func openURL(t testing.TB, raw string) *Store {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for parameter, usual := range map[string]string{"new": "1", "timeout": "20s"} {
		if !q.Has(parameter) {
			q.Set(parameter, usual)
		}
	}
	u.RawQuery = q.Encode()
	d, err := OpenURL(t.Context(), u, driver.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d.(*Store)
}

// files writes a password, a certificate and its key.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}),
		"password": []byte("hunter2\r\n"), "junk.pem": []byte("junk"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestURLsSayWhatTheyMean(t *testing.T) {
	dir := files(t)
	for _, c := range []struct {
		url  string
		want func(o Options) bool
	}{
		{"redis://h", func(o Options) bool {
			return o.Client.Addr == "h:6379" && o.Prefix == "locksidecar" && o.Client.TLSConfig == nil
		}},
		{"redis://h:1/3", func(o Options) bool { return o.Client.Addr == "h:1" && o.Client.DB == 3 }},
		{"redis://h?db=4", func(o Options) bool { return o.Client.DB == 4 }},
		{"redis://[::1]", func(o Options) bool { return o.Client.Addr == "[::1]:6379" }},
		{"redis://[::1]:7", func(o Options) bool { return o.Client.Addr == "[::1]:7" }},
		{"redis://u:p%40ss@h", func(o Options) bool { return o.Client.Username == "u" && o.Client.Password == "p@ss" }},
		{"redis://:pw@h", func(o Options) bool { return o.Client.Username == "" && o.Client.Password == "pw" }},
		{"redis://h?username=u&password_file=" + dir + "/password", func(o Options) bool { return comes(o.Client.CredentialsProviderContext, "u", "hunter2") }},
		{"redis://u@h?password_file=" + dir + "/password", func(o Options) bool { return comes(o.Client.CredentialsProviderContext, "u", "hunter2") }},
		{"redis://h?prefix=p&timeout=3s&poll=4s&retention=5h", func(o Options) bool {
			return o.Prefix == "p" && o.Timeout == 3*time.Second && o.Poll == 4*time.Second && o.Retention == 5*time.Hour &&
				connects(o, func(c redis.Options) bool {
					return c.ReadTimeout == o.Timeout && c.WriteTimeout == o.Timeout && c.DialTimeout == o.Timeout
				})
		}},
		{"rediss://h", func(o Options) bool { return o.Client.TLSConfig.ServerName == "h" && o.Client.TLSConfig.RootCAs == nil }},
		{"rediss://h?ca_file=" + dir + "/cert.pem&cert_file=" + dir + "/cert.pem&key_file=" + dir + "/key.pem", func(o Options) bool {
			return o.Client.TLSConfig.RootCAs != nil && len(o.Client.TLSConfig.Certificates) == 1 && !o.Client.TLSConfig.InsecureSkipVerify
		}},
		{"redis+unix:///run/redis.sock?db=2", func(o Options) bool {
			return o.Client.Network == "unix" && o.Client.Addr == "/run/redis.sock" && o.Client.DB == 2
		}},
		{"redis+unix:///run/redis.sock", func(o Options) bool {
			return connects(o, func(c redis.Options) bool { return c.MaxRetries == -1 && c.DialerRetries == 1 })
		}},
		{"redis+sentinel://h1,h2,h3:7/locks", func(o Options) bool {
			return slices.Equal(o.Sentinel.Addrs, []string{"h1:26379", "h2:26379", "h3:7"}) && o.Sentinel.Primary == "locks" && o.Client.TLSConfig == nil
		}},
		{"redis+sentinel://u:pw@h1,h2,h3/locks?db=3&sentinel_username=s&sentinel_password_file=" + dir + "/password", func(o Options) bool {
			return o.Client.Username == "u" && o.Client.Password == "pw" && o.Client.DB == 3 && comes(o.Sentinel.credentials, "s", "hunter2")
		}},
		{"rediss+sentinel://h1/locks", func(o Options) bool { return o.Client.TLSConfig != nil && o.Client.TLSConfig.ServerName == "" }},
		{"redis+cluster://h1:1,h2,h3:3", func(o Options) bool {
			return slices.Equal(o.Cluster, []string{"h1:1", "h2:6379", "h3:3"}) && o.Sentinel == nil
		}},
		{"redis+cluster://[::1]:7", func(o Options) bool { return slices.Equal(o.Cluster, []string{"[::1]:7"}) }},
		{"rediss+cluster://h1,h2?ca_file=" + dir + "/cert.pem", func(o Options) bool { return o.Client.TLSConfig.RootCAs != nil }},
		{"redis://h?allow_eviction=1&wait_replicas=2", func(o Options) bool { return o.AllowEviction && o.WaitReplicas == 2 }},
	} {
		if o := openURL(t, c.url).o; !c.want(o) {
			t.Errorf("%s: options %+v", c.url, o)
		}
	}
}

// connects tells whether the options of a connection are as they should be.
func connects(o Options, want func(c redis.Options) bool) bool {
	c := o.Client
	o.bare(&c)
	return want(c)
}

func TestURLsThatAreRefused(t *testing.T) {
	dir := files(t)
	for raw, want := range map[string]string{
		"redis://u:hunter2@h?colour=red":                                                    "known are allow_eviction, ca_file, cert_file, db, key_file, max_ttl, new, password_file, poll, prefix, retention, sentinel_password_file, sentinel_username, timeout, username, wait_replicas",
		"redis://u:hunter2@h?password=hunter2":                                              "unknown parameter",
		"redis://u:hunter2@h?prefix=%zz":                                                    "known parameters are allow_eviction",
		"redis://u:hunter2@h?poll=2s;timeout=1s":                                            "known parameters are allow_eviction",
		"redis://u:hunter2@":                                                                "no host",
		"redis://u:hunter2@h/x":                                                             "database number",
		"redis://u:hunter2@h/-1":                                                            "database number",
		"redis://u:hunter2@h/1/2":                                                           "database number",
		"redis://u:hunter2@h?db=-1":                                                         "negative",
		"redis://u:hunter2@h?db=x":                                                          "parameter db",
		"redis://u:hunter2@h?timeout=0s":                                                    "not positive",
		"redis://u:hunter2@h?poll=fast":                                                     "parameter poll",
		"redis://u:hunter2@h?poll=1h":                                                       "Options.Poll",
		"redis://u:hunter2@h?retention=-1s":                                                 "not positive",
		"redis://u:hunter2@h?prefix=a%7Bb":                                                  "Options.Prefix",
		"redis://u:hunter2@h?prefix=a%20b":                                                  "Options.Prefix",
		"redis://u@h?password_file=" + dir + "/none":                                        "password_file",
		"redis://u:hunter2@h?ca_file=" + dir + "/cert.pem":                                  "need rediss://",
		"redis+unix://u:hunter2@/s?key_file=" + dir + "/k":                                  "need rediss://",
		"redis://u:hunter2@h1,h2":                                                           "redis+cluster://",
		"redis+sentinel://u:hunter2@h1,h2,h3":                                               "want redis+sentinel://h1,h2,h3/name",
		"redis+sentinel://u:hunter2@h1/a/b":                                                 "want redis+sentinel://h1,h2,h3/name",
		"redis+sentinel://u:hunter2@h1,,h3/a":                                               "no host",
		"redis+cluster://u:hunter2@h1,":                                                     "no host",
		"redis+cluster://u:hunter2@h1/2":                                                    "no databases",
		"redis+cluster://u:hunter2@h1?db=2":                                                 "no databases",
		"redis+cluster://u:hunter2@h1?sentinel_username=s":                                  "need redis+sentinel://",
		"redis+cluster://u:hunter2@h1?key_file=/k":                                          "need rediss://",
		"redis://u:hunter2@h?allow_eviction=perhaps":                                        "neither 1 nor 0",
		"redis://u:hunter2@h?wait_replicas=-1":                                              "negative",
		"redis+unix://u:hunter2@":                                                           "redis+unix:///path",
		"redis+unix://u:hunter2@tmp/s":                                                      "redis+unix:///path",
		"rediss://u:hunter2@h?ca_file=" + dir + "/none":                                     "ca_file",
		"rediss://u:hunter2@h?ca_file=" + dir + "/junk.pem":                                 "no certificate",
		"rediss://u:hunter2@h?cert_file=" + dir + "/cert.pem":                               "belong together",
		"rediss://u:hunter2@h?key_file=" + dir + "/key.pem":                                 "belong together",
		"rediss://u:hunter2@h?cert_file=" + dir + "/junk.pem&key_file=" + dir + "/key.pem":  "cert_file and key_file",
		"rediss://u:hunter2@h?cert_file=" + dir + "/cert.pem&key_file=" + dir + "/password": "cert_file and key_file",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		d, err := OpenURL(t.Context(), u, driver.Env{})
		if err == nil {
			_ = d.Close()
			t.Errorf("%s was accepted", raw)
			continue
		}
		if !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %q, want an ErrInvalid with %q and without the password", raw, err, want)
		}
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	for field, o := range map[string]Options{
		"Timeout": {Timeout: -1}, "Poll": {Poll: -1}, "MinTTL": {MinTTL: defaultMaxTTL + 1}, "Retention": {Retention: -1}, "Prefix": {Prefix: "ä"},
		"WaitReplicas": {WaitReplicas: -1}, "Sentinel": {Sentinel: &Sentinel{Addrs: []string{"h:1"}}},
		"Cluster": {Cluster: []string{"h:1"}, Client: redis.Options{DB: 1}},
	} {
		if _, err := New(o); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("%s: error %v, want an ErrInvalid that names it", field, err)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "redis.sock")
	server := testenv.StartRedisT(t, "--unixsocket", path)
	d := openURL(t, "redis+unix://"+path+"?prefix=p")
	granted(t, d, request("a", "r"))
	if addr := server.Must(t, "CLIENT", "LIST").(string); !strings.Contains(addr, path) {
		t.Errorf("no client came by the socket:\n%s", addr)
	}
	if n := server.Must(t, "EXISTS", d.shardPrefix(shardOf("a"))+"l:a"); n != int64(1) {
		t.Error("the record is not in the server")
	}
}

// comes says whether credentials are these.
func comes(credentials func(context.Context) (string, string, error), user, password string) bool {
	if credentials == nil {
		return false
	}
	u, p, err := credentials(context.Background())
	return u == user && p == password && err == nil
}
