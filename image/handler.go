package image

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// Handler serves the store in a directory to readers: GET and HEAD, with Range, of what readers read and of nothing else. It follows no
// link out of the directory. Close it when the server has ended.
type Handler struct {
	root  *os.Root
	files http.Handler
}

// NewHandler opens the store's directory.
func NewHandler(dir string) (*Handler, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", dir, err)
	}
	return &Handler{root: root, files: http.FileServerFS(root.FS())}, nil
}

// Close gives the directory back.
func (h *Handler) Close() error { return h.root.Close() }

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "a store is only read", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if !h.readable(name) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", caching(name))
	h.files.ServeHTTP(w, r)
}

// readable keeps to regular files of the layout: no listing, no lease, nothing that a builder has not finished.
func (h *Handler) readable(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	switch top {
	case format.StoreFile, "tags", "blobs", "traces":
	default:
		return false
	}
	if !fs.ValidPath(name) {
		return false
	}
	st, err := h.root.Stat(name)
	return err == nil && st.Mode().IsRegular()
}

// caching: a blob's name is its content, all else may change at any time.
func caching(name string) string {
	if strings.HasPrefix(name, "blobs/") {
		return "public, max-age=31536000, immutable"
	}
	return "no-cache"
}
