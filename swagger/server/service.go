package server

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/server/listen"
	"github.com/windlass-hpc/windlass/swagger/spec"
)

func (s *Server) info(w http.ResponseWriter, _ *call) error {
	return s.answer(w, http.StatusOK, s.chain.Info())
}

// health answers while the daemon can answer at all; it asks nothing of the chain, which may be waiting for dead storage.
func (s *Server) health(w http.ResponseWriter, _ *call) error {
	if s.stopping.Load() {
		return errStopping()
	}
	return s.answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) spec(w http.ResponseWriter, c *call) error {
	scheme := ""
	if l := listenerOf(c.Request); l != nil && l.Scheme != listen.Unix {
		scheme = l.Scheme
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	s.untilTaken(w)
	w.Write(s.specs[scheme])
	return nil
}

// specs gives the contract for each scheme it can be asked over, so that what Swagger UI tries goes where the page came from.
func specs() (map[string][]byte, error) {
	out := map[string][]byte{"": spec.JSON()}
	for _, scheme := range []string{listen.HTTP, listen.HTTPS} {
		var doc map[string]json.RawMessage
		if err := json.Unmarshal(spec.JSON(), &doc); err != nil {
			return nil, fmt.Errorf("read the contract: %w", err)
		}
		doc["schemes"] = json.RawMessage(`["` + scheme + `"]`)
		raw, err := json.Marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("write the contract: %w", err)
		}
		out[scheme] = raw
	}
	return out, nil
}

func (s *Server) documentation(w http.ResponseWriter, c *call) error {
	if !s.docs.Has(mux.Vars(c.Request)["file"]) {
		return fault.New(fault.NotFound, "the documentation has no file %q", printable(mux.Vars(c.Request)["file"]))
	}
	s.untilTaken(w)
	s.docs.ServeHTTP(w, c.Request)
	return nil
}
