//go:build linux

package kube

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
)

// WriteImage writes an OCI archive of an image that is one static binary, which
// is also its entry point, for this machine's architecture. user is uid:gid.
// https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
func WriteImage(archive, name, binary, user string) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	entry := "/" + filepath.Base(binary)
	layer, err := tarball(file{entry[1:], program, 0o755})
	if err != nil {
		return err
	}
	w := &layout{}
	layerAt := w.blob("application/vnd.oci.image.layer.v1.tar", layer)
	config := w.json("application/vnd.oci.image.config.v1+json", map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{entry}, "User": user},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layerAt.Digest}},
	})
	manifest := w.json("application/vnd.oci.image.manifest.v1+json", map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []descriptor{layerAt},
	})
	manifest.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifest}})
	if err != nil {
		return err
	}
	out, err := tarball(append(w.files, file{"index.json", index, 0o644}, file{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644})...)
	if err != nil {
		return err
	}
	return os.WriteFile(archive, out, 0o600)
}

// file is an entry of an archive.
type file struct {
	name    string
	content []byte
	mode    int64
}

// layout collects the blobs of an OCI layout.
type layout struct{ files []file }

// descriptor is how blobs name each other.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (l *layout) blob(media string, content []byte) descriptor {
	sum := sha256.Sum256(content)
	name := hex.EncodeToString(sum[:])
	l.files = append(l.files, file{"blobs/sha256/" + name, content, 0o644})
	return descriptor{MediaType: media, Digest: "sha256:" + name, Size: len(content)}
}

func (l *layout) json(media string, v map[string]any) descriptor {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return l.blob(media, raw)
}

func tarball(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
