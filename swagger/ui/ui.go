// Package ui serves Swagger UI from the binary. It owns the page around it; the assets are those of the module swaggest/swgui.
//
// The page loads nothing from elsewhere, and its Content-Security-Policy forbids it to.
package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/swaggest/swgui/v5/static"
)

//go:embed assets
var page embed.FS

// policy lets the page load from its own server only. Styles may be inline, for Swagger UI draws with them; images may be data.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// asset is a file of the page. Large ones lie compressed in the binary.
type asset struct {
	plain, packed []byte // one of both
	mediaType     string
	tag           string
}

// UI is an http.Handler for the page and its files.
type UI struct {
	base  string
	files map[string]asset
}

// New makes the page at base, such as /imageapi/v1/docs, for the contract at specURL.
func New(base, specURL string) (*UI, error) {
	u := &UI{base: base, files: map[string]asset{}}
	assets, err := fs.Sub(page, "assets")
	if err != nil {
		return nil, err
	}
	place := strings.NewReplacer("BASE", base, "SPEC", specURL)
	for _, name := range []string{"index.html", "page.css", "page.js"} {
		content, err := fs.ReadFile(assets, name)
		if err != nil {
			return nil, fmt.Errorf("read the documentation page: %w", err)
		}
		u.add(name, []byte(place.Replace(string(content))), false)
	}
	for _, name := range []string{"swagger-ui.css.gz", "swagger-ui-bundle.js.gz", "favicon-32x32.png"} {
		content, err := static.FS.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read Swagger UI: %w", err)
		}
		u.add(strings.TrimSuffix(name, ".gz"), content, strings.HasSuffix(name, ".gz"))
	}
	return u, nil
}

func (u *UI) add(name string, content []byte, packed bool) {
	sum := sha256.Sum256(content)
	a := asset{mediaType: mediaType(name), tag: `"` + hex.EncodeToString(sum[:8]) + `"`}
	if packed {
		a.packed = content
	} else {
		a.plain = content
	}
	u.files[name] = a
}

// mediaType does not ask the node's own table alone: an image without one is what we mostly run on.
func mediaType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".png":
		return "image/png"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// Has reports whether the page has the file; the empty name is the page itself.
func (u *UI) Has(name string) bool {
	_, ok := u.files[orIndex(name)]
	return ok
}

func orIndex(name string) string {
	if name == "" {
		return "index.html"
	}
	return name
}

// ServeHTTP answers the page and its files; the caller has asked Has.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := orIndex(strings.Trim(strings.TrimPrefix(r.URL.Path, u.base), "/"))
	a, ok := u.files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.mediaType)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache") // it is asked for again and answered 304
	h.Set("Vary", "Accept-Encoding")
	content, tag := a.plain, a.tag
	if a.packed != nil {
		var err error
		if content, tag, err = a.unpack(h, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	h.Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// unpack leaves it to the client when it can.
func (a asset) unpack(h http.Header, r *http.Request) ([]byte, string, error) {
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && r.Header.Get("Range") == "" {
		h.Set("Content-Encoding", "gzip")
		return a.packed, strings.TrimSuffix(a.tag, `"`) + `-gzip"`, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(a.packed))
	if err != nil {
		return nil, "", err
	}
	plain, err := io.ReadAll(z)
	return plain, a.tag, err
}
