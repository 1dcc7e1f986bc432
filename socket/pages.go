package socket

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"

	"github.com/locksidecar/locksidecar/backend"
)

// pages seals the page tokens of a store, which may name a lock that the peer
// may not inspect. The key is of this process: a listing does not go on after
// its restart. The zero value leaves tokens as they are.
type pages struct{ box cipher.AEAD }

func newPages() pages {
	var key [32]byte
	_, _ = rand.Read(key[:]) // it never fails: crypto/rand ends the process instead
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	box, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // the block has the right size
	}
	return pages{box}
}

func (p pages) seal(token string) string {
	if p.box == nil || token == "" {
		return token
	}
	return base64.RawURLEncoding.EncodeToString(p.box.Seal(nil, nil, []byte(token), nil))
}

func (p pages) open(sealed string) (string, error) {
	if p.box == nil || sealed == "" {
		return sealed, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err == nil {
		raw, err = p.box.Open(nil, nil, raw, nil)
	}
	if err != nil {
		return "", &backend.InvalidError{Field: "page_token", Reason: "is not from a listing of this sidecar since its start", Limits: "the next_page_token of the page before"}
	}
	return string(raw), nil
}
