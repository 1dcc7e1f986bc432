package inject

import (
	"slices"
	"strings"
)

// Repository is an image's name without its tag and digest.
func Repository(image string) string {
	repository, _, _ := split(image)
	return repository
}

// split takes an image's name apart; the tag and the digest may be empty.
func split(image string) (repository, tag, digest string) {
	repository, digest, _ = strings.Cut(image, "@")
	if i := strings.LastIndex(repository, ":"); i > strings.LastIndex(repository, "/") {
		repository, tag = repository[:i], repository[i+1:]
	}
	return repository, tag, digest
}

// fromOurs says whether an image is of the repository of the sidecar's, or of one
// that stands for it.
func (s *Settings) fromOurs(image string) bool {
	r := Repository(image)
	return r == Repository(s.Image) || slices.Contains(s.Mirrors, r)
}

// rewritten says whether an image is the sidecar's as another webhook may have
// rewritten it: of a mirror, or with a digest besides the tag. To set it back would
// undo what the other does, at each call anew. It must be the configuration's tag or
// digest: a sidecar of before is not the one of now.
func (s *Settings) rewritten(image string) bool {
	if !s.fromOurs(image) {
		return false
	}
	_, tag, digest := split(image)
	_, ourTag, ourDigest := split(s.Image)
	if ourDigest != "" {
		return digest == ourDigest
	}
	return latest(tag) == latest(ourTag) && (tag != "" || digest == "")
}

// latest is the tag that an image without one has.
func latest(tag string) string {
	if tag == "" {
		return "latest"
	}
	return tag
}
