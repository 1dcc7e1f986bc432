package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// binary is a Go binary and what its linker recorded.
type binary struct {
	name, sha256 string
	info         *buildinfo.BuildInfo
}

// document is the part of CycloneDX 1.6 that is written
// (https://cyclonedx.org/docs/1.6/json/). It has no serial number and no time:
// they would differ each time.
type document struct {
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	URL        string     `json:"purl,omitempty"`
	Hashes     []digest   `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type digest struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// bill is the document of the binaries: each is a component that depends on its
// modules and on the standard library of its toolchain.
func bill(name, version string, binaries []binary) document {
	root := component{Type: "container", Ref: name, Name: name, Version: version}
	d := document{Format: "CycloneDX", SpecVersion: "1.6", Version: 1, Metadata: metadata{root}}
	whole := dependency{Ref: root.Ref}
	modules := make(map[string]component)
	for _, b := range binaries {
		app := component{
			Type: "application", Ref: "file:" + b.name, Name: b.name, Version: version,
			Hashes: []digest{{"SHA-256", b.sha256}}, Properties: settings(b.info),
		}
		d.Components = append(d.Components, app)
		whole.DependsOn = append(whole.DependsOn, app.Ref)
		needs := dependency{Ref: app.Ref}
		std := &debug.Module{Path: "std", Version: strings.TrimPrefix(b.info.GoVersion, "go")}
		for _, m := range append([]*debug.Module{std}, b.info.Deps...) {
			if m.Replace != nil {
				m = m.Replace
			}
			c := library(m)
			modules[c.Ref] = c
			needs.DependsOn = append(needs.DependsOn, c.Ref)
		}
		slices.Sort(needs.DependsOn)
		d.Dependencies = append(d.Dependencies, needs)
	}
	d.Dependencies = append([]dependency{whole}, d.Dependencies...)
	for _, c := range modules {
		d.Components = append(d.Components, c)
	}
	slices.SortFunc(d.Components, func(a, b component) int { return cmp.Compare(a.Ref, b.Ref) })
	return d
}

// library is a module. Its hash is go.sum's, of the module's files.
func library(m *debug.Module) component {
	url := "pkg:golang/" + m.Path + "@" + m.Version
	c := component{Type: "library", Ref: url, Name: m.Path, Version: m.Version, URL: url}
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) > 0 {
		c.Hashes = []digest{{"SHA-256", hex.EncodeToString(sum)}}
	}
	return c
}

// settings are those of the compilation that change what was compiled.
func settings(info *buildinfo.BuildInfo) (found []property) {
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "GOAMD64", "GOARM64", "CGO_ENABLED", "vcs.revision", "vcs.modified", "-tags":
			found = append(found, property{"go:" + s.Key, s.Value})
		}
	}
	return found
}

// hash is the file's SHA-256.
func hash(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
