package redis

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func FuzzPageToken(f *testing.F) {
	for _, id := range []string{"a", "a/b", "{a}", "a:b", strings.Repeat("n", 255)} {
		f.Add(fmt.Sprintf("%03x:%s", shardOf(id), id))
	}
	for _, token := range []string{"", ":", "000:", "fff:a", "1000:a", "0x1:a", "+01:a", "-1:a"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		shard, after, err := parsePageToken(token)
		switch {
		case err != nil:
			if !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("%q: %v is no ErrInvalid", token, err)
			}
		case token == "":
			if shard != 0 || after != "" {
				t.Errorf("an empty token starts at shard %d after %q", shard, after)
			}
		case shard < 0 || shard >= shards || after == "" || shardOf(after) != shard:
			t.Errorf("%q was read as shard %d after %q", token, shard, after)
		}
	})
}

func FuzzHint(f *testing.F) {
	for _, payload := range []string{"g\x1fa\x1fr", "r\x1fa\x1f12", "r\x1fa\x1f", "x\x1fa\x1fb", "", "g\x1f\x1f\x1f"} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		h, ok := parseHint(payload)
		if !ok {
			return
		}
		switch h.Kind {
		case driver.HintGrantable:
			if payload != "g"+fieldSeparator+h.LockID+fieldSeparator+h.RequestID {
				t.Errorf("%q was read as %+v", payload, h)
			}
		case driver.HintRevoked:
			if !strings.HasPrefix(payload, "r"+fieldSeparator+h.LockID+fieldSeparator) {
				t.Errorf("%q was read as %+v", payload, h)
			}
		default:
			t.Errorf("%q was read as %+v", payload, h)
		}
	})
}

// A blob that another wrote may be anything; reading it ends in holders or in an
// ErrFormat.
func FuzzHolders(f *testing.F) {
	f.Add("5\x1fkey\x1f1\x1f900\x1f100\x1fs\x1fin\x1fme\x1f{\"a\":\"b\"}\x1f\x1dr1\x1dr2\x1d\x1e", int64(800))
	f.Add("5\x1fkey\x1f1\x1f900\x1f100\x1f\x1fin\x1fme\x1f\x1f\x1dr1\x1d\x1e6\x1fk\x1f1\x1f900\x1f1\x1fr\x1fin\x1fyou\x1f\x1f\x1dr\x1d\x1e", int64(1))
	f.Add("x\x1f\x1e", int64(0))
	f.Fuzz(func(t *testing.T, blob string, now int64) {
		holders, err := parseHolders(blob, now)
		if err != nil && !errors.Is(err, driver.ErrFormat) {
			t.Errorf("%q: %v is no ErrFormat", blob, err)
		}
		if len(holders) > strings.Count(blob, recordSeparator)+1 {
			t.Errorf("%q holds %d leases", blob, len(holders))
		}
		for _, h := range holders {
			if h.Remaining == 0 || h.HoldCount < -1 {
				t.Errorf("%q: %+v", blob, h)
			}
		}
		if _, err := ended("a", blob); err != nil && !errors.Is(err, driver.ErrFormat) {
			t.Errorf("%q: %v is no ErrFormat", blob, err)
		}
	})
}

func FuzzURL(f *testing.F) {
	for _, raw := range []string{
		"redis://u:hunter2@h:1/2?prefix=p", "rediss://h?ca_file=/x", "redis+unix:///s", "redis://[::1]?poll=1s", "redis://h?x=%zz", "redis://h/9999999999999999999999",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil {
			return
		}
		if strings.Contains(u.RawQuery, "_file") {
			return // opens no file of the machine
		}
		d, err := OpenURL(t.Context(), u, driver.Env{})
		if err != nil {
			if password, ok := u.User.Password(); ok && len(password) > 8 && !strings.Contains(u.Redacted(), password) && strings.Contains(err.Error(), password) {
				t.Errorf("%q: the error %q has the password", raw, err)
			}
			return
		}
		if err := d.Close(); err != nil {
			t.Errorf("%q: close: %v", raw, err)
		}
	})
}
