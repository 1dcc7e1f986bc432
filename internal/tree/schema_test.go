package tree

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/locksidecar/locksidecar/internal/config"
)

// The published schema is the one that the types make.
func TestSchemaOfTheDocumentsIsTheCodes(t *testing.T) {
	path := filepath.Join(root, "docs/config.schema.json")
	got, err := os.ReadFile(path)
	if err == nil && bytes.Equal(got, config.Schema()) {
		return
	}
	if !*update {
		t.Fatalf("docs/config.schema.json is not current (%v); run: make docs", err)
	}
	if err := os.WriteFile(path, config.Schema(), 0o644); err != nil {
		t.Fatal(err)
	}
}
