package inject

import (
	"strings"
	"testing"
)

const (
	one = "@sha256:1111111111111111111111111111111111111111111111111111111111111111"
	two = "@sha256:2222222222222222222222222222222222222222222222222222222222222222"
)

// What another webhook makes of the image stays if it is the image of now, and a
// second call of this one neither refuses the pod nor undoes it.
func TestARewrittenImage(t *testing.T) {
	const (
		ours   = "registry.example/locksidecar"
		mirror = "mirror.example:5000/registry.example/locksidecar"
	)
	for _, row := range []struct {
		name, ours, found string
		// want is the image then; empty: refused.
		want string
	}{
		{"as it is", ours + ":1", ours + ":1", ours + ":1"},
		{"a mirror", ours + ":1", mirror + ":1", mirror + ":1"},
		{"a digest", ours + ":1", ours + ":1" + one, ours + ":1" + one},
		{"a mirror and a digest", ours + ":1", mirror + ":1" + one, mirror + ":1" + one},
		{"another tag", ours + ":2", ours + ":1", ours + ":2"},
		{"another tag of a mirror", ours + ":2", mirror + ":1", ours + ":2"},
		{"another tag with a digest", ours + ":2", ours + ":1" + one, ours + ":2"},
		{"a digest instead of the tag", ours + ":1", ours + one, ours + ":1"},
		{"no tag any more", ours + ":1", mirror, ours + ":1"},
		{"our digest", ours + one, ours + one, ours + one},
		{"a mirror of our digest", ours + one, mirror + one, mirror + one},
		{"our tag and digest, without the tag", ours + ":1" + one, mirror + one, mirror + one},
		{"another digest", ours + ":1" + one, mirror + ":1" + two, ours + ":1" + one},
		{"the digest is gone", ours + ":1" + one, mirror + ":1", ours + ":1" + one},
		{"no tag", ours, mirror, mirror},
		{"no tag is the latest", ours, mirror + ":latest" + one, mirror + ":latest" + one},
		{"no tag, and another digest", ours, mirror + one, ours},
		{"another repository", ours + ":1", "evil.example/locksidecar:1", ""},
		{"another repository of our digest", ours + one, "evil.example/locksidecar" + one, ""},
		{"another repository below a mirror", ours + ":1", mirror + "/evil:1", ""},
		{"another registry of a mirror's host", ours + ":1", strings.Replace(mirror, "5000", "5001", 1) + ":1", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := settings()
			s.Image, s.Mirrors = row.ours, []string{"elsewhere.example/locksidecar", mirror}
			p := injected(t, s, plain())
			sidecarOf(t, p).Image = row.found
			if row.want == "" {
				if r := refused(t, s, p); r.Reason != ReasonContainer || !strings.Contains(r.Message, "its image is not "+ours) || !strings.Contains(r.Message, "sidecar.mirrors") {
					t.Errorf("%s: %s", r.Reason, r.Message)
				}
				return
			}
			out := injected(t, s, p)
			if got := sidecarOf(t, out).Image; got != row.want {
				t.Errorf("the image is %s, want %s", got, row.want)
			}
			unchanged(t, s, out)
		})
	}
}

// Without the setting nothing but the repository itself is the sidecar's.
func TestNoMirrorIsTakenUnasked(t *testing.T) {
	p := injected(t, settings(), plain())
	sidecarOf(t, p).Image = "mirror.example/" + settings().Image
	if r := refused(t, settings(), p); r.Reason != ReasonContainer {
		t.Errorf("the reason is %s", r.Reason)
	}
}
