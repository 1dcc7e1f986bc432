// Command billofmaterials writes what Go binaries were made of, as CycloneDX JSON:
// the modules that the linker recorded in them, with their versions and hashes,
// and the toolchain. The same binaries give the same bytes.
//
// Usage: billofmaterials -name NAME -version VERSION BINARY... > sbom.cdx.json
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	name := flag.String("name", "", "what the binaries are part of")
	version := flag.String("version", "", "its version")
	flag.Parse()
	if err := write(*name, *version, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(name, version string, files []string) error {
	if name == "" || version == "" || len(files) == 0 {
		return fmt.Errorf("usage: billofmaterials -name NAME -version VERSION BINARY")
	}
	var binaries []binary
	for _, f := range files {
		info, err := buildinfo.ReadFile(f)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		sum, err := hash(f)
		if err != nil {
			return err
		}
		binaries = append(binaries, binary{name: filepath.Base(f), sha256: sum, info: info})
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	return e.Encode(bill(name, version, binaries))
}
