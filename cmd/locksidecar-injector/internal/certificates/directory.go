package certificates

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Directory is a Store of certificates that somebody else makes: tls.crt, tls.key
// and, if the caBundle is to be kept here, ca.crt.
type Directory string

// Load reads the files. What is half written when it is read is read again.
func (d Directory) Load(context.Context) ([]*Pair, string, error) {
	var files [3][]byte
	for i, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		raw, err := os.ReadFile(filepath.Join(string(d), name))
		if err != nil && !(name == "ca.crt" && errors.Is(err, fs.ErrNotExist)) {
			return nil, "", err
		}
		files[i] = raw
	}
	p, err := Parse(files[0], files[1], files[2])
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", d, err)
	}
	return []*Pair{p}, "", nil
}

// Save is never called: the files are another's.
func (d Directory) Save(context.Context, []*Pair, string) error {
	return fmt.Errorf("%s: its certificates are made by somebody else", d)
}
