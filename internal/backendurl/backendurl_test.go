package backendurl

import (
	"errors"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for raw, says := range map[string]string{
		"embedded:": "", "embedded:///run/locks.db?poll=1s": "",
		"redis://h:6379/2?password_file=/run/x&prefix=a": "", "rediss+sentinel://a,b/main?sentinel_password_file=/run/x": "",
		"redis+unix:///run/redis.sock": "", "etcds://a,b?min_ttl=2s": "", "dynamodb://table?region=eu-west-1": "", "REDIS://h": "",

		"foo://hunter2":                        `unknown scheme "foo"; known are dynamodb, embedded, etcd, etcds, redis, redis+cluster,`,
		"":                                     `unknown scheme ""`,
		"postgres://h":                         `unknown scheme "postgres"`,
		"redis://h?bogus=hunter2":              `unknown parameter "bogus"; those of redis are allow_eviction, ca_file,`,
		"etcd://h?db=hunter2":                  `unknown parameter "db"; those of etcd are ca_file,`,
		"embedded:?retention=hunter2":          `unknown parameter "retention"; those of embedded are poll, prefix, timeout`,
		"redis://h?a=%zz&password=hunter2":     "parameters of its URL cannot be read",
		"redis://%zz:hunter2":                  "cannot be read",
		"redis://u:hunter2@h":                  "has a password",
		"redis://h?password=hunter2":           "has a password",
		"redis://h?sentinel_password=hunter2":  "has a password",
		"redis://h?bogus=1&Passwd=hunter2":     "has a password",
		"foo://h?password=hunter2":             "has a password",
		"redis+sentinel://:hunter2@a,b/main":   "has a password",
		"redis://h?password_files=hunter2":     "has a password",
		"redis://h?other_password_file=/x/y/z": "unknown parameter",
	} {
		err := Check(raw)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v does not say %q, or tells a secret", raw, err, says)
		}
		if errors.Is(err, ErrPassword) != (says == "has a password") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
